#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

#include "isa/decoder.h"

namespace doppel::isa::test {

/// Decodes bytes to `insn`.
class DecodedInsn : public ::testing::Test {
 protected:
  x86::CpuidModel cpuid = x86::CpuidModel::for_host(1);
  Decoder decoder{cpuid};
  Insn insn;

  DecodeStatus decode(std::initializer_list<unsigned> bytes, CodeSize size = CodeSize::Bits64, bool protect = true) {
    std::vector<std::byte> raw;
    for (const unsigned byte : bytes) raw.push_back(static_cast<std::byte>(byte));
    return decoder.decode(raw, size, protect, insn);
  }
};

}  // namespace doppel::isa::test
