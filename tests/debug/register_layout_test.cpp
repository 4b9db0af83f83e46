#include "debug/register_layout.h"

#include <gtest/gtest.h>

#include <cstring>

namespace doppel::debug {
namespace {

using Architecture = RegisterLayout::Architecture;

/// The number that the description gives a register.
std::size_t number_of(const RegisterLayout& layout, const std::string& name) {
  const std::string xml = layout.description();
  const std::size_t reg = xml.find("<reg name=\"" + name + "\"");
  EXPECT_NE(reg, std::string::npos) << name;
  const std::size_t number = xml.find("regnum=\"", reg);
  return std::stoul(xml.substr(number + 8));
}

std::uint64_t low(const std::vector<std::byte>& bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min<std::size_t>(bytes.size(), 8));
  return value;
}

template <class T>
std::vector<std::byte> bytes_of(T value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

TEST(RegisterLayout, X86_64FollowsGdbsOrder) {
  const RegisterLayout layout{Architecture::X86_64};
  x86::CpuState state;
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = 0x1000 + i;
  EXPECT_EQ(low(layout.read(state, 0)), state.gpr[x86::kRax]);
  EXPECT_EQ(low(layout.read(state, 1)), state.gpr[x86::kRbx]);
  EXPECT_EQ(low(layout.read(state, 2)), state.gpr[x86::kRcx]);
  EXPECT_EQ(low(layout.read(state, 7)), state.gpr[x86::kRsp]);
  EXPECT_EQ(number_of(layout, "rip"), 16U);
  EXPECT_EQ(number_of(layout, "eflags"), 17U);
  EXPECT_EQ(number_of(layout, "st0"), 24U);
  EXPECT_EQ(number_of(layout, "xmm0"), 40U);
}

TEST(RegisterLayout, I386HasTheEncodingsOrderAndHalfTheVectors) {
  const RegisterLayout layout{Architecture::I386};
  x86::CpuState state;
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = 0x1000 + i;
  EXPECT_EQ(low(layout.read(state, 1)), state.gpr[x86::kRcx]);
  EXPECT_EQ(layout.read(state, 0).size(), 4U);
  EXPECT_EQ(number_of(layout, "eip"), 8U);
  EXPECT_EQ(layout.description().find("xmm8"), std::string::npos);
}

TEST(RegisterLayout, ArchitectureIsI386OnlyUnderPagingWithoutLongMode) {
  x86::CpuState state;
  EXPECT_EQ(RegisterLayout::architecture_of(state), Architecture::X86_64);
  state.cr0 |= x86::cr0::kPg | x86::cr0::kPe;
  EXPECT_EQ(RegisterLayout::architecture_of(state), Architecture::I386);
  state.efer = x86::efer::kLma;
  EXPECT_EQ(RegisterLayout::architecture_of(state), Architecture::X86_64);
}

TEST(RegisterLayout, EveryRegisterThatMayBeSetReadsBack) {
  const RegisterLayout layout{Architecture::X86_64};
  for (const char* name : {"rax", "r15", "rip", "fs_base", "gs_base"}) {
    x86::CpuState state;
    const std::size_t number = number_of(layout, name);
    EXPECT_TRUE(layout.write(state, number, bytes_of(std::uint64_t{0x1234'5678'9ABC}))) << name;
    EXPECT_EQ(low(layout.read(state, number)), 0x1234'5678'9ABCU) << name;
  }
  x86::CpuState state;
  std::array<std::uint64_t, 2> vector{0x1111, 0x2222};
  EXPECT_TRUE(layout.write(state, number_of(layout, "xmm3"), bytes_of(vector)));
  EXPECT_TRUE(layout.write(state, number_of(layout, "ymm3h"), bytes_of(vector)));
  EXPECT_EQ(state.ymm[3].qword, (std::array<std::uint64_t, 4>{0x1111, 0x2222, 0x1111, 0x2222}));
}

TEST(RegisterLayout, RefusesWhatWouldLeaveHiddenStateBehindOrFault) {
  const RegisterLayout layout{Architecture::X86_64};
  x86::CpuState state;
  EXPECT_FALSE(layout.write(state, number_of(layout, "cs"), bytes_of(std::uint32_t{8})));
  EXPECT_FALSE(layout.write(state, number_of(layout, "cr0"), bytes_of(std::uint64_t{1})));
  EXPECT_FALSE(layout.write(state, number_of(layout, "mxcsr"), bytes_of(std::uint32_t{0x10000})));
  EXPECT_FALSE(layout.write(state, number_of(layout, "rip"), bytes_of(std::uint64_t{1} << 60)));
  EXPECT_FALSE(layout.write(state, 0, bytes_of(std::uint32_t{0}))) << "the wrong size";
  EXPECT_TRUE(layout.write(state, number_of(layout, "eflags"), bytes_of(std::uint32_t{0xFFFF'FFFF})));
  EXPECT_FALSE(state.virtual_8086());
  EXPECT_TRUE(state.rflags() & x86::rflags::kIf);
}

TEST(RegisterLayout, AllRegistersSurviveAWriteOfWhatWasRead) {
  for (const Architecture architecture : {Architecture::I386, Architecture::X86_64}) {
    const RegisterLayout layout{architecture};
    x86::CpuState state;
    for (unsigned i = 0; i < 16; ++i) state.gpr[i] = 0x1000 + i;
    state.fpu.ftw = 0x81;
    state.fpu.st[0].significand = std::uint64_t{1} << 63;
    state.fpu.st[0].sign_exponent = 0x3FFF;
    const std::vector<std::byte> before = layout.read_all(state);
    x86::CpuState copy;
    EXPECT_TRUE(layout.write_all(copy, before));
    EXPECT_EQ(layout.read_all(copy), before);
    EXPECT_FALSE(layout.write_all(copy, std::span{before}.first(before.size() - 1)));
  }
}

TEST(RegisterLayout, TagWordIsUnpacked) {
  // TOP = 7 and one value pushed: physical register 7 is ST(0), the rest is empty (SDM vol. 1, 8.1.7).
  const RegisterLayout layout{Architecture::X86_64};
  x86::CpuState state;
  state.fpu.fsw = 7 << 11;
  state.fpu.ftw = 0x80;
  const std::size_t ftag = number_of(layout, "ftag");
  EXPECT_EQ(low(layout.read(state, ftag)), 0x7FFFU) << "zero";
  state.fpu.st[0] = {std::uint64_t{1} << 63, 0x3FFF, {}};
  EXPECT_EQ(low(layout.read(state, ftag)), 0x3FFFU) << "valid";
  state.fpu.st[0] = {std::uint64_t{3} << 62, 0x7FFF, {}};
  EXPECT_EQ(low(layout.read(state, ftag)), 0xBFFFU) << "special";
  EXPECT_TRUE(layout.write(state, ftag, bytes_of(std::uint32_t{0xFFFF})));
  EXPECT_EQ(state.fpu.ftw, 0);
}

}  // namespace
}  // namespace doppel::debug
