#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "isa/decoder.h"
#include "isa/op_table.h"
#include "x86/cpu_state.h"

namespace doppel::engine::test {

/// Where random numbers, instructions and their operands come from. The same seed gives the same ones.
class RandomInstructions {
 public:
  RandomInstructions(const x86::CpuidModel& cpuid, std::uint64_t seed) : random_(seed), decoder_(cpuid) {}

  std::mt19937_64& bits() { return random_; }
  const isa::Decoder& decoder() const { return decoder_; }
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t times) { return below(times) == 0; }

  /// More of those at which carries, signs and sizes change.
  std::uint64_t number() {
    switch (below(4)) {
      case 0:
        return below(64);
      case 1:
        return ~below(64);
      case 2:
        return std::uint64_t{1} << below(64);
      default:
        return random_();
    }
  }

  /// Bytes of an instruction and more; rather those that are likely to be one.
  std::vector<std::byte> bytes(isa::CodeSize size) {
    std::vector<std::byte> bytes;
    const auto add = [&](std::uint64_t value) { bytes.push_back(static_cast<std::byte>(value)); };
    const bool rex = size == isa::CodeSize::Bits64;
    if (one_in(4)) add(0x66);
    if (one_in(6)) add(one_in(2) ? 0xF2 : 0xF3);
    if (one_in(12)) add(0xF0);
    const std::uint64_t kind = below(8);
    if (kind < 3) {
      if (rex && one_in(2)) add(0x40 | below(16));
      add(random_());
    } else if (kind < 6) {
      if (rex && one_in(2)) add(0x40 | below(16));
      add(0x0F);
      if (one_in(3)) add(one_in(2) ? 0x38 : 0x3A);
      add(random_());
    } else if (one_in(2)) {
      bytes.clear();
      add(0xC5);
      add(random_());
      add(random_());
    } else {
      bytes.clear();
      add(0xC4);
      add((random_() & 0xE0) | (1 + below(3)));
      add(random_());
      add(random_());
    }
    while (bytes.size() < isa::kMaxInsnLength) add(random_());
    return bytes;
  }

  /// One that the host executes (OpClass::HostAlu) and that does not name the stack pointer.
  std::vector<std::byte> instruction(isa::CodeSize size, isa::Insn& insn, isa::Encoding* encoding = nullptr) {
    for (;;) {
      std::vector<std::byte> candidate = bytes(size);
      if (decoder_.decode(candidate, size, true, insn, encoding) != isa::DecodeStatus::Ok) continue;
      if (!usable(insn)) continue;
      candidate.resize(insn.length);
      return candidate;
    }
  }

  static bool usable(const isa::Insn& insn) {
    if (isa::op_class(insn) != isa::OpClass::HostAlu) return false;
    for (unsigned i = 0; i < insn.operand_count; ++i) {
      const isa::Operand& operand = insn.op[i];
      if (operand.kind == isa::OperandKind::Gpr && operand.reg == x86::kRsp) return false;
    }
    return true;
  }

  static bool is_bit_string(const isa::Insn& insn) {
    const bool bit_test = insn.mnemonic == ZYDIS_MNEMONIC_BT || insn.mnemonic == ZYDIS_MNEMONIC_BTS ||
                          insn.mnemonic == ZYDIS_MNEMONIC_BTR || insn.mnemonic == ZYDIS_MNEMONIC_BTC;
    return bit_test && insn.op[1].kind == isa::OperandKind::Gpr;
  }
  static bool has_memory(const isa::Insn& insn) {
    for (unsigned i = 0; i < insn.operand_count; ++i) {
      if (insn.op[i].kind == isa::OperandKind::Memory) return true;
    }
    return false;
  }

  /// Puts the memory operand at a linear address by setting its registers, where that can be; `segment_base` is that of
  /// its segment. Bit offsets stay within 1000 bytes of it.
  bool place_memory(const isa::Insn& insn, std::uint64_t address, std::uint64_t segment_base,
                    std::array<std::uint64_t, 16>& gpr) {
    if (!has_memory(insn)) return true;
    const isa::MemoryOperand& mem = insn.mem;
    if (mem.address_size == 2 || mem.gather || mem.base >= isa::kRipRegister || mem.base == x86::kRsp ||
        mem.base == mem.index)
      return false;
    const std::uint64_t mask = low_mask(mem.address_size * 8U);
    address -= segment_base;
    if (mem.index != isa::kNoRegister) {
      gpr[mem.index] = number();
      address -= gpr[mem.index] * mem.scale;
    }
    gpr[mem.base] = (address - static_cast<std::uint64_t>(mem.displacement)) & mask;
    // What lies above the address size must not matter.
    if (mask != ~std::uint64_t{0} && insn.code_size == isa::CodeSize::Bits64) gpr[mem.base] |= random_() & ~mask;
    if (!is_bit_string(insn)) return true;
    if (insn.op[1].reg == mem.base || insn.op[1].reg == mem.index) return false;
    gpr[insn.op[1].reg] = below(16000) - 8000;
    return true;
  }

  void fill(x86::CpuState& state) {
    for (unsigned i = 0; i < 16; ++i) {
      if (i != x86::kRsp) state.gpr[i] = number();
    }
    for (x86::Ymm& ymm : state.ymm) {
      for (std::uint64_t& value : ymm.qword) value = number();
    }
    fill(state.fpu);
  }
  void fill(x86::FpuState& fpu) {
    fpu = {};
    fpu.mxcsr = !one_in(8) ? 0x1F80 | (random_() & 0xE040) : 0x1F80 & ~(1U << (7 + below(6)));
    fpu.fcw = static_cast<std::uint16_t>(0x37F | (random_() & 0xF00));
    fpu.ftw = static_cast<std::uint8_t>(random_());
    fpu.fsw = static_cast<std::uint16_t>(below(8) << 11);
    for (auto& st : fpu.st) {
      st.significand = random_() | std::uint64_t{1} << 63;
      st.sign_exponent = static_cast<std::uint16_t>((0x3FFF + below(16)) | (random_() & 0x8000));
    }
  }

 private:
  std::mt19937_64 random_;
  isa::Decoder decoder_;
};

inline std::string disassembled(std::span<const std::byte> bytes, isa::CodeSize size, std::uint64_t address = 0) {
  ZydisDisassembledInstruction shown;
  const ZydisMachineMode mode =
      size == isa::CodeSize::Bits64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32;
  return ZYAN_SUCCESS(ZydisDisassembleIntel(mode, address, bytes.data(), bytes.size(), &shown)) ? shown.text : "(bad)";
}

}  // namespace doppel::engine::test
