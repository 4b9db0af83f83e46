#include <vector>

#include "engine/dbt/twins.h"

/// Random programs on both engines: whatever instructions, addresses, branches and faults they are made of.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

class RandomPrograms : public ::testing::TestWithParam<TwinMode> {
 protected:
  const TwinMode mode_ = GetParam();
  Twins twins_{translator_for(mode_)};
  /// --gtest_random_seed=N makes other programs.
  RandomInstructions random_{twins_.left.cpuid, 7 + static_cast<std::uint64_t>(GetParam()) +
                                                    100 * static_cast<std::uint64_t>(GTEST_FLAG_GET(random_seed))};
  std::string listing_;
  bool faulty_ = false;

  const isa::CodeSize code_size_ = is_64(mode_) ? isa::CodeSize::Bits64 : isa::CodeSize::Bits32;
  static constexpr std::uint64_t kCounter = 0x31'0000, kVector = 0x31'1000, kUsedPages = 4;

  r::Gp gp(unsigned number) const { return is_64(mode_) ? r::Gp(r::gpq(number)) : r::Gp(r::gpd(number)); }
  unsigned any_register() {
    for (;;) {
      const auto number = static_cast<unsigned>(random_.below(is_64(mode_) ? 16 : 8));
      if (number != x86::kRsp) return number;
    }
  }
  void load(Assembler& a, unsigned number, std::uint64_t value) {
    if (is_64(mode_)) {
      a.mov(r::gpq(number), value);
    } else {
      a.mov(r::gpd(number), static_cast<std::uint32_t>(value));
    }
  }

  /// One that can be accessed; mostly so in a program that may fault.
  std::uint64_t address(bool aligned = false) {
    const std::uint64_t page = Twins::kData + 4096 * random_.below(kUsedPages - 1), near_end = 4096 - random_.below(40);
    switch (faulty_ ? random_.below(200) : 6 + random_.below(50)) {
      case 0:
        return Twins::kReadOnly + random_.below(4096);
      case 1:
        return Twins::kAbsent - random_.below(40) + 20;
      case 2:
        return Twins::kSupervisor + random_.below(4096);
      case 3:
        return Twins::kReadOnly - random_.below(40);
      case 4:
        return is_64(mode_) ? std::uint64_t{1} << (47 + random_.below(17)) | Twins::kData : Twins::kData;
      case 5:
        return Twins::kMmio + random_.below(64);
      case 6:
      case 7:
      case 8:
      case 9:
        if (aligned && !faulty_) break;
        return page + near_end;
      case 10:
      case 11:
        if (aligned && !faulty_) break;
        return page + random_.below(4096);
      default:
        break;
    }
    return page + 1024 + 64 * random_.below(32);
  }

  /// Makes an absolute or RIP-relative operand point to an address.
  static bool patch_displacement(const isa::Insn& insn, const isa::Encoding& encoding, std::uint64_t at,
                                 std::uint64_t target, std::vector<std::byte>& bytes) {
    const std::size_t size = encoding.has_modrm ? 4 : insn.mem.address_size;
    const bool relative = insn.mem.base == isa::kRipRegister;
    const std::uint64_t value = relative ? target - (at + insn.length) : target;
    if (size == 4 && sign_extend(value, 32) != static_cast<std::int64_t>(value)) return false;
    const std::size_t end = encoding.immediate_at != 0 && encoding.has_modrm ? encoding.immediate_at : insn.length;
    std::memcpy(bytes.data() + end - size, &value, size);
    return true;
  }

  void host_instruction(Assembler& a) {
    for (;;) {
      isa::Insn insn;
      isa::Encoding encoding;
      std::vector<std::byte> bytes = random_.instruction(code_size_, insn, &encoding);
      std::array<std::uint64_t, 16> gpr{};
      const isa::MemoryOperand& mem = insn.mem;
      const bool memory = RandomInstructions::has_memory(insn) && insn.mnemonic != ZYDIS_MNEMONIC_LEA;
      if (memory) {
        const std::uint64_t target = address(insn.unit == isa::Unit::Sse), base = twins_.state.seg(mem.segment).base;
        const bool based = mem.segment == SegReg::Fs || mem.segment == SegReg::Gs;
        const bool fixed = (mem.base == isa::kNoRegister || mem.base == isa::kRipRegister) &&
                           mem.index == isa::kNoRegister && !mem.gather && mem.address_size != 2 &&
                           !RandomInstructions::is_bit_string(insn);
        if (fixed) {
          const std::uint64_t at = code_ + a.offset();
          if (!patch_displacement(insn, encoding, at, target - (based ? base : 0), bytes)) continue;
        } else {
          if (!random_.place_memory(insn, target, based ? base : 0, gpr)) continue;
          if (mem.base != isa::kNoRegister) load(a, mem.base, gpr[mem.base]);
          if (mem.index != isa::kNoRegister) load(a, mem.index, gpr[mem.index]);
          if (RandomInstructions::is_bit_string(insn)) load(a, insn.op[1].reg, gpr[insn.op[1].reg]);
        }
      }
      listing_ += disassembled(bytes, code_size_, code_ + a.offset()) + '\n';
      a.embed(bytes.data(), bytes.size());
      return;
    }
  }

  void string_instruction(Assembler& a) {
    load(a, x86::kRsi, address());
    load(a, x86::kRdi, address());
    load(a, x86::kRcx, random_.below(40));
    if (random_.one_in(4)) a.std();
    constexpr std::array<unsigned, 10> kOpcodes{0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF};
    std::vector<std::uint8_t> bytes;
    if (random_.one_in(4)) bytes.push_back(0x66);
    if (!random_.one_in(3)) bytes.push_back(random_.one_in(2) ? 0xF2 : 0xF3);
    if (is_64(mode_) && random_.one_in(3)) bytes.push_back(0x48);
    bytes.push_back(static_cast<std::uint8_t>(kOpcodes[random_.below(kOpcodes.size())]));
    listing_ += disassembled(std::as_bytes(std::span(bytes)), code_size_) + '\n';
    a.embed(bytes.data(), bytes.size());
    a.cld();
  }

  void control_flow(Assembler& a) {
    const Label next = a.newLabel(), other = a.newLabel();
    switch (random_.below(9)) {
      case 0: {
        const unsigned from = any_register(), to = any_register();
        listing_ += fmt::format("push {}; pop {}\n", from, to);
        a.push(gp(from));
        host_instruction(a);
        a.pop(gp(to));
        break;
      }
      case 1:
        listing_ += "call, ret\n";
        a.call(other);
        a.jmp(next);
        a.bind(other);
        host_instruction(a);
        a.ret();
        break;
      case 2: {
        listing_ += "push, call, ret n\n";
        const Label over = a.newLabel();
        a.jmp(over);
        a.bind(other);
        host_instruction(a);
        a.ret(2 * (is_64(mode_) ? 8 : 4));
        a.bind(over);
        a.push(static_cast<int>(random_.below(1000)));
        a.push(gp(any_register()));
        a.call(other);
        break;
      }
      case 3: {
        const unsigned number = any_register();
        listing_ += "indirect jump\n";
        a.lea(gp(number), r::ptr(next));
        a.jmp(gp(number));
        host_instruction(a);
        break;
      }
      case 4: {
        listing_ += "indirect call through memory\n";
        const unsigned number = any_register(), pointer = (number + 1) % 4;
        a.lea(gp(number), r::ptr(other));
        load(a, pointer == number ? 0 : pointer, kVector);
        const r::Gp base = gp(pointer == number ? 0 : pointer);
        if (number == base.id()) return a.jmp(next), a.bind(other), a.bind(next), void();
        a.mov(r::ptr(base), gp(number));
        a.call(r::ptr(base, 0, is_64(mode_) ? 8 : 4));
        a.jmp(next);
        a.bind(other);
        host_instruction(a);
        a.ret();
        break;
      }
      case 5:
        listing_ += "frame\n";
        a.push(gp(x86::kRbp));
        a.mov(gp(x86::kRbp), gp(x86::kRsp));
        a.sub(gp(x86::kRsp), 64);
        host_instruction(a);
        load(a, x86::kRbp, 0);
        a.lea(gp(x86::kRbp), r::ptr(gp(x86::kRsp), 64));
        a.leave();
        break;
      case 6:
        listing_ += "pushf, popf\n";
        a.emit(is_64(mode_) ? r::Inst::kIdPushfq : r::Inst::kIdPushfd);
        host_instruction(a);
        a.emit(is_64(mode_) ? r::Inst::kIdPopfq : r::Inst::kIdPopfd);
        break;
      case 7: {
        listing_ += "push, pop memory\n";
        const unsigned number = any_register();
        load(a, number, address());
        a.push(r::ptr(gp(number), 0, is_64(mode_) ? 8 : 4));
        load(a, number, address());
        a.pop(r::ptr(gp(number), 0, is_64(mode_) ? 8 : 4));
        break;
      }
      default:
        listing_ += "jcc\n";
        a.j(static_cast<r::CondCode>(random_.below(16)), next);
        host_instruction(a);
        if (random_.one_in(2)) host_instruction(a);
        break;
    }
    a.bind(next);
  }

  std::uint64_t code_ = kCodeAddress;  ///< where the program under construction lies

  /// Runs three times over itself, unless something faults.
  std::vector<std::byte> program() {
    listing_.clear();
    faulty_ = random_.one_in(3);
    return assemble(
        code_,
        [this](Assembler& a) {
          const Label start = a.newLabel();
          a.bind(start);
          const std::uint64_t units = 3 + random_.below(30);
          for (std::uint64_t i = 0; i < units; ++i) {
            const std::uint64_t kind = random_.below(20);
            if (kind == 0) {
              string_instruction(a);
            } else if (kind < 6) {
              control_flow(a);
            } else {
              host_instruction(a);
            }
          }
          a.dec(r::dword_ptr(kCounter));
          a.jnz(start);
          a.hlt();
        },
        is_64(mode_) ? asmjit::Arch::kX64 : asmjit::Arch::kX86);
  }

  void prepare() {
    twins_.enter(mode_);
    CpuState& state = twins_.state;
    const std::uint64_t rsp = state.gpr[x86::kRsp];
    random_.fill(state);
    state.gpr[x86::kRsp] = rsp - 16 * random_.below(300);
    if (!is_64(mode_)) {
      for (std::uint64_t& value : state.gpr) value &= 0xFFFF'FFFF;
    }
    if (random_.one_in(6)) state.fpu.fcw &= static_cast<std::uint16_t>(~(1U << random_.below(6)));
    state.set_rflags(random_.bits()() & x86::rflags::kStatus);
    if (!random_.one_in(3)) {
      state.seg(SegReg::Fs).base = 0x1234'5000 & (is_64(mode_) ? ~0ULL : 0xFFFF'FFFF);
      state.seg(SegReg::Gs).base = is_64(mode_) ? 0xFFFF'8880'0001'0000 : 0x7000'0000;
    }
    std::vector<std::uint64_t> data(Twins::kDataPages * 512);
    for (std::uint64_t& value : data) value = random_.number();
    twins_.place(Twins::kData, std::as_bytes(std::span(data)));
    twins_.poke<std::uint32_t>(kCounter, 3);
    // Code lies anywhere in its page, and often across its end.
    code_ = kCodeAddress + (random_.one_in(2) ? 0 : 4096 - random_.below(200));
    state.rip = code_;
  }
};

TEST_P(RandomPrograms, end_alike) {
  constexpr unsigned kPrograms = 1000;
  unsigned failures = 0, undisturbed = 0;
  for (unsigned i = 0; i < kPrograms && failures < 5; ++i) {
    prepare();
    twins_.place(code_, program());
    twins_.run();
    const std::string difference = twins_.difference();
    if (!difference.empty()) ++failures;
    EXPECT_EQ(difference, "") << "program " << i << " at " << std::hex << code_ << ":\n" << listing_;
    std::uint32_t left = 3;
    ASSERT_TRUE(twins_.left.memory->read_value(kCounter, left));
    if (left == 0) ++undisturbed;
  }
  // Neither all of them nor none end by a fault.
  EXPECT_GT(undisturbed, kPrograms / 10);
  EXPECT_LT(undisturbed, kPrograms);
  EXPECT_EQ(twins_.right.vcpu->stats()["blocks_failed"], 0);
}

INSTANTIATE_TEST_SUITE_P(modes, RandomPrograms,
                         ::testing::Values(TwinMode::User64, TwinMode::Direct64, TwinMode::Supervisor64,
                                           TwinMode::Protected32, TwinMode::UserCompatibility));

}  // namespace
}  // namespace doppel::engine::test
