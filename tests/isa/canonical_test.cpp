#include "isa/canonical.h"

#include <gtest/gtest.h>

#include <array>
#include <span>

#include "isa/decoder.h"

namespace doppel::isa {
namespace {

/// lea esp, [ecx + 40000000h] was undefined outside 64-bit mode: a 32-bit kernel needs it at once.
TEST(Canonical, LeaOf16And32BitAddresses) {
  const x86::CpuidModel cpuid = x86::CpuidModel::for_host(1);
  const Decoder decoder(cpuid);
  constexpr std::array<unsigned char, 6> kLea{0x8D, 0xA1, 0x00, 0x00, 0x00, 0x40};
  for (const CodeSize size : {CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64}) {
    Insn insn;
    ASSERT_EQ(decoder.decode(std::as_bytes(std::span{kLea}), size, true, insn), DecodeStatus::Ok);
    Canonical canonical;
    EXPECT_TRUE(canonicalize(insn, canonical)) << static_cast<int>(size);
    EXPECT_TRUE(canonical.address_only);
  }
}

}  // namespace
}  // namespace doppel::isa
