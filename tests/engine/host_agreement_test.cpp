#include <sys/mman.h>

#include <array>
#include <bit>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <set>

#include "engine/guest_program.h"
#include "engine/random_instructions.h"

/// Random instructions of the class that the host executes, run on the interpreter and directly: whatever thunks load,
/// encode and store must come out the same. (Whether the host is right is not the question here.)
namespace doppel::engine::test {
namespace {

using isa::Insn;

/// Everything an instruction can see or change, at an address that absolute 32-bit addressing reaches.
struct alignas(64) NativeState {
  x86::FpuState fpu;
  std::array<x86::Ymm, 16> ymm;
  std::array<std::uint64_t, 16> gpr;
  std::uint64_t rflags;
  std::uint64_t host_rsp;
};
constexpr std::uint64_t kNativeState = 0x50'0000, kNativeCode = 0x60'0000, kBuffer = kDataAddress;
constexpr std::size_t kBufferSize = 4096;

NativeState& native() {
  return *std::bit_cast<NativeState*>(kNativeState);
}

sigjmp_buf recovery;
volatile sig_atomic_t trapped = 0;
void on_trap(int, siginfo_t*, void* context) {
  trapped = static_cast<int>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_TRAPNO]);
  siglongjmp(recovery, 1);
}

constexpr std::uint64_t kStatus = x86::rflags::kStatus;
constexpr int kNoTrap = -1;

class HostAgreement : public OnEachEngine {
 protected:
  void SetUp() override {
    map(kNativeState, sizeof(NativeState));
    map(kNativeCode, 4096);
    map(kBuffer, kBufferSize);
  }
  void TearDown() override {
    munmap(std::bit_cast<void*>(kNativeState), sizeof(NativeState));
    munmap(std::bit_cast<void*>(kNativeCode), 4096);
    munmap(std::bit_cast<void*>(kBuffer), kBufferSize);
  }
  static void map(std::uint64_t address, std::size_t size) {
    void* wanted = std::bit_cast<void*>(address);
    ASSERT_EQ(mmap(wanted, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
              wanted);
  }

  /// Executes the instruction with native()'s values. The vector of the exception that it raised, or kNoTrap.
  static int run_natively(std::span<const std::byte> instruction) {
    namespace h = asmjit::x86;
    const auto field = [](std::size_t offset, std::uint32_t size) { return h::Mem(kNativeState + offset, size); };
    const auto code = assemble(kNativeCode, [&](h::Assembler& a) {
      for (const h::Gp& saved : {h::rbx, h::rbp, h::r12, h::r13, h::r14, h::r15}) a.push(saved);
      a.mov(field(offsetof(NativeState, host_rsp), 8), h::rsp);
      a.fxrstor64(field(offsetof(NativeState, fpu), 0));
      for (unsigned i = 0; i < 16; ++i) a.vmovups(h::ymm(i), field(offsetof(NativeState, ymm) + 32UL * i, 32));
      a.push(field(offsetof(NativeState, rflags), 8));
      a.popfq();
      for (unsigned i = 0; i < 16; ++i) {
        if (i != x86::kRsp) a.mov(h::gpq(i), field(offsetof(NativeState, gpr) + 8UL * i, 8));
      }
      a.embed(instruction.data(), instruction.size());
      a.mov(field(offsetof(NativeState, gpr), 8), h::rax);
      for (unsigned i = 1; i < 16; ++i) {
        if (i != x86::kRsp) a.mov(field(offsetof(NativeState, gpr) + 8UL * i, 8), h::gpq(i));
      }
      a.mov(h::rsp, field(offsetof(NativeState, host_rsp), 8));
      a.pushfq();
      a.pop(field(offsetof(NativeState, rflags), 8));
      for (unsigned i = 0; i < 16; ++i) a.vmovups(field(offsetof(NativeState, ymm) + 32UL * i, 32), h::ymm(i));
      a.fxsave64(field(offsetof(NativeState, fpu), 0));
      for (const h::Gp& saved : {h::r15, h::r14, h::r13, h::r12, h::rbp, h::rbx}) a.pop(saved);
      a.vzeroupper();
      a.fninit();
      a.ret();
    });
    void* page = std::bit_cast<void*>(kNativeCode);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    std::memcpy(page, code.data(), code.size());
    mprotect(page, 4096, PROT_READ | PROT_EXEC);

    struct sigaction action {};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO;
    std::array<struct sigaction, 3> old{};
    constexpr std::array kSignals{SIGFPE, SIGSEGV, SIGILL};
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &old[i]);
    const std::uint32_t mxcsr = __builtin_ia32_stmxcsr();
    int vector = kNoTrap;
    if (sigsetjmp(recovery, 1) == 0) {
      std::bit_cast<void (*)()>(kNativeCode)();
    } else {
      vector = trapped;
      asm volatile("fninit");
    }
    __builtin_ia32_ldmxcsr(mxcsr);
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &old[i], nullptr);
    return vector;
  }

  RandomInstructions random_{cpuid, 12345};

  /// Into native(), with the memory operand in the buffer; false where that cannot be.
  bool randomize(const Insn& insn) {
    x86::CpuState made;
    random_.fill(made);
    native().gpr = made.gpr;
    native().gpr[x86::kRsp] = random_.number();
    native().ymm = made.ymm;
    native().fpu = made.fpu;
    native().rflags = (random_.bits()() & kStatus) | 2 | x86::rflags::kIf;
    auto* buffer = std::bit_cast<std::uint64_t*>(kBuffer);
    for (std::size_t i = 0; i < kBufferSize / 8; ++i) buffer[i] = random_.number();
    const bool based = insn.mem.segment == SegReg::Fs || insn.mem.segment == SegReg::Gs;
    if (RandomInstructions::has_memory(insn) && (insn.mem.address_size != 8 || based)) return false;
    const std::uint64_t offset = random_.one_in(8) ? random_.below(1024) : 64 * random_.below(16);
    return random_.place_memory(insn, kBuffer + 1024 + offset, 0, native().gpr);
  }
};

TEST_P(HostAgreement, random_instructions) {
  constexpr unsigned kInstructions = 20'000;
  std::set<ZydisMnemonic> seen;
  unsigned failures = 0;
  for (unsigned done = 0; done < kInstructions && failures < 20;) {
    Insn insn;
    const std::vector<std::byte> bytes = random_.instruction(isa::CodeSize::Bits64, insn);
    if (!randomize(insn)) continue;
    ++done;
    seen.insert(insn.mnemonic);

    state = long_mode(memory);
    install_handlers(memory, state);
    state.rip = kCodeAddress;
    state.gpr = native().gpr;
    state.gpr[x86::kRsp] = kStackTop;
    state.set_rflags(native().rflags & ~x86::rflags::kIf);
    state.ymm = native().ymm;
    state.fpu = native().fpu;
    place(kBuffer, {std::bit_cast<const std::byte*>(kBuffer), kBufferSize});
    place(kCodeAddress, bytes);
    place(kCodeAddress + bytes.size(), {0xF4});

    const int trap = run_natively(bytes);
    const ExitReason reason = run();
    const std::string what = disassembled(bytes, isa::CodeSize::Bits64);
    const unsigned before =
        static_cast<unsigned>(testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count());
    ASSERT_EQ(reason, ExitReason::Halted) << what;
    EXPECT_EQ(exception() ? static_cast<int>(*exception()) : kNoTrap, trap) << what;
    if (trap == kNoTrap && !exception()) {
      for (unsigned i = 0; i < 16; ++i) {
        if (i == x86::kRsp) native().gpr[i] = state.gpr[i];
        EXPECT_EQ(state.gpr[i], native().gpr[i]) << what << " gpr " << i;
        EXPECT_EQ(state.ymm[i].qword, native().ymm[i].qword) << what << " ymm " << i;
        if (i < 8) {
          EXPECT_EQ(state.fpu.st[i].significand, native().fpu.st[i].significand) << what << " st " << i;
          EXPECT_EQ(state.fpu.st[i].sign_exponent, native().fpu.st[i].sign_exponent) << what << " st " << i;
        }
      }
      EXPECT_EQ(status_flags(), native().rflags & kStatus) << what;
      EXPECT_EQ(state.fpu.mxcsr, native().fpu.mxcsr) << what;
      EXPECT_EQ(state.fpu.fcw, native().fpu.fcw) << what;
      EXPECT_EQ(state.fpu.fsw, native().fpu.fsw) << what;
      EXPECT_EQ(state.fpu.ftw, native().fpu.ftw) << what;
      std::array<std::byte, kBufferSize> guest;
      ASSERT_TRUE(memory.read(kBuffer, guest));
      EXPECT_EQ(std::memcmp(guest.data(), std::bit_cast<const void*>(kBuffer), kBufferSize), 0) << what;
    }
    if (static_cast<unsigned>(testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count()) !=
        before)
      ++failures;
  }
  RecordProperty("mnemonics", static_cast<int>(seen.size()));
  EXPECT_GT(seen.size(), 300U);
}

DOPPEL_TEST_ON_EACH_ENGINE(HostAgreement);

}  // namespace
}  // namespace doppel::engine::test
