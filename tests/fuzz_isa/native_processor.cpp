#include "fuzz_isa/native_processor.h"

#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <span>
#include <sstream>
#include <system_error>
#include <vector>

#include "fuzz_isa/native_frame.h"

namespace doppel::fuzz_isa {

struct NativeProcessor::Shared {
  std::size_t count;
  Memory memory;
  std::array<std::uint8_t, kWritableSize> last_memory;
  std::array<Image, kBatch> start;
  std::array<Outcome, kBatch> outcome;
};

namespace {

/// XSTATE_BV and the upper halves of YMM in the standard form (SDM vol. 1, 13.4), which signal frames have, too.
constexpr std::size_t kXstateBv = 512, kYmmHigh = 576;
constexpr std::uint64_t kX87 = 1, kSse = 2, kAvx = 4;
constexpr suseconds_t kTick = 500'000;  // microseconds

// The signal handler's world. It belongs to the child process, which does nothing else.
struct World {
  std::size_t count, current;
  bool running;
  const Image* start;
  Outcome* outcome;
  const Memory* memory;
  std::uint64_t* data;
  unsigned ticks;  // since the current case began
  std::size_t ticked;
  std::uint8_t* last_memory;  // what the last case leaves in the writable pages
} world;

NativeFrame& frame() {
  return *std::bit_cast<NativeFrame*>(kFrame);
}

constexpr std::array kRegisters{REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

void load(const Image& image) {
  NativeFrame& to = frame();
  to.gpr = image.gpr;
  to.rip = image.rip;
  to.cs = image.cs;
  to.rflags = image.rflags;
  to.rsp = image.gpr[x86::kRsp];
  to.ss = image.ss;
  to.ds = image.ds;
  to.es = image.es;
  to.fs = image.fs;
  to.gs = image.gs;
  to.fs_base = image.fs_base;
  to.gs_base = image.gs_base;
  std::uint8_t* area = to.xsave.data();
  std::memcpy(area, &image.fpu, 160);
  for (std::size_t i = 0; i < image.ymm.size(); ++i) {
    std::memcpy(area + 160 + 16 * i, image.ymm[i].qword.data(), 16);
    std::memcpy(area + kYmmHigh + 16 * i, &image.ymm[i].qword[2], 16);
  }
  constexpr std::uint64_t kAll = kX87 | kSse | kAvx;
  // All of the header: a case may have written to it.
  std::memset(area + kXstateBv, 0, kYmmHigh - kXstateBv);
  std::memcpy(area + kXstateBv, &kAll, 8);
}

void save_vectors(const std::uint8_t* area, Image& image) {
  std::uint64_t present;
  std::memcpy(&present, area + kXstateBv, 8);
  std::memcpy(static_cast<void*>(&image.fpu), area, 160);
  if ((present & kX87) == 0) {
    const std::uint32_t mxcsr = image.fpu.mxcsr;
    image.fpu = {};
    image.fpu.mxcsr = mxcsr;
  }
  for (std::size_t i = 0; i < image.ymm.size(); ++i) {
    image.ymm[i] = {};
    if ((present & kSse) != 0) std::memcpy(image.ymm[i].qword.data(), area + 160 + 16 * i, 16);
    if ((present & kAvx) != 0) std::memcpy(&image.ymm[i].qword[2], area + kYmmHigh + 16 * i, 16);
  }
}

Outcome::Kind kind_of(int signal) {
  if (signal == SIGSYS) return Outcome::Kind::SystemCall;
  return signal == SIGALRM ? Outcome::Kind::Endless : Outcome::Kind::Exception;
}

/// The next case's state into the frame, and its memory.
bool prepare_next(bool dirty) {
  world.running = world.current != world.count;
  if (dirty) std::memcpy(world.data, world.memory->data(), kWritableSize);
  if (world.running) load(world.start[world.current]);
  return world.running;
}

bool end_of_memory(Outcome& outcome) {
  outcome.memory = digest(world.data, *world.memory);
  ++world.current;
  if (world.current == world.count) std::memcpy(world.last_memory, world.data, kWritableSize);
  return outcome.memory != 0;
}

extern "C" bool doppel_fuzz_isa_next() {
  world.current = 0;
  return prepare_next(true);
}

extern "C" bool doppel_fuzz_isa_ended() {
  Outcome& outcome = world.outcome[world.current];
  const NativeFrame& from = frame();
  outcome.kind = Outcome::Kind::End;
  outcome.vector = 0;
  outcome.error_code = 0;
  outcome.address = 0;
  Image& end = outcome.end;
  end.gpr = from.gpr;
  end.rflags = from.rflags;
  end.rip = 0;
  end.cs = 0;
  end.ss = static_cast<std::uint16_t>(from.ss);
  end.ds = static_cast<std::uint16_t>(from.ds);
  end.es = static_cast<std::uint16_t>(from.es);
  end.fs = static_cast<std::uint16_t>(from.fs);
  end.gs = static_cast<std::uint16_t>(from.gs);
  end.fs_base = from.fs_base;
  end.gs_base = from.gs_base;
  save_vectors(from.xsave.data(), end);
  return prepare_next(end_of_memory(outcome));
}

void save(const ucontext_t* context, Image& image) {
  const greg_t* registers = context->uc_mcontext.gregs;
  for (std::size_t i = 0; i < kRegisters.size(); ++i)
    image.gpr[i] = static_cast<std::uint64_t>(registers[kRegisters[i]]);
  image.rip = static_cast<std::uint64_t>(registers[REG_RIP]);
  image.rflags = static_cast<std::uint64_t>(registers[REG_EFL]);
  image.cs = static_cast<std::uint16_t>(registers[REG_CSGSFS]);
  image.ss = static_cast<std::uint16_t>(static_cast<std::uint64_t>(registers[REG_CSGSFS]) >> 48);
  const NativeFrame& from = frame();
  image.ds = static_cast<std::uint16_t>(from.signal_ds);
  image.es = static_cast<std::uint16_t>(from.signal_es);
  image.fs = static_cast<std::uint16_t>(from.signal_fs);
  image.gs = static_cast<std::uint16_t>(from.signal_gs);
  image.fs_base = from.signal_fs_base;
  image.gs_base = from.signal_gs_base;
  save_vectors(reinterpret_cast<const std::uint8_t*>(context->uc_mcontext.fpregs), image);
}

extern "C" void doppel_fuzz_isa_signal(int signal, siginfo_t*, ucontext_t* context) {
  greg_t* registers = context->uc_mcontext.gregs;
  if (signal == SIGALRM) {
    if (!world.running || world.ticked != world.current) {
      world.ticked = world.current;
      world.ticks = 0;
      return;
    }
    if (++world.ticks < 2) return;
  }
  if (!world.running) _exit(1);
  Outcome& outcome = world.outcome[world.current];
  outcome.kind = kind_of(signal);
  outcome.vector = static_cast<std::uint8_t>(registers[REG_TRAPNO]);
  outcome.error_code = static_cast<std::uint32_t>(registers[REG_ERR]);
  outcome.address = static_cast<std::uint64_t>(registers[REG_CR2]);
  save(context, outcome.end);
  const bool more = prepare_next(end_of_memory(outcome));
  registers[REG_RIP] = reinterpret_cast<greg_t>(more ? &doppel_fuzz_isa_enter : &doppel_fuzz_isa_leave);
  registers[REG_RSP] = static_cast<greg_t>(kFrame + kFrameSize - 0x100);
  registers[REG_EFL] = x86::rflags::kReserved1;
  registers[REG_CSGSFS] = static_cast<greg_t>(kUserCode64 | std::uint64_t{kUserData} << 48);
}

void must(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

void catch_signals() {
  constexpr std::size_t kStackSize = 1 << 18;
  static std::array<std::byte, kStackSize> stack;
  const stack_t alternate{stack.data(), 0, stack.size()};
  must(sigaltstack(&alternate, nullptr) == 0, "sigaltstack");
  struct sigaction action {};
  action.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(&doppel_fuzz_isa_entry);
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  for (const int signal : {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP, SIGSYS, SIGALRM})
    must(sigaction(signal, &action, nullptr) == 0, "sigaction");
  const itimerval tick{{0, kTick}, {0, kTick}};
  must(setitimer(ITIMER_REAL, &tick, nullptr) == 0, "setitimer");
}

/// System calls from the code region become SIGSYS; instruction pointers have two halves of 32 bits.
void forbid_system_calls() {
  constexpr auto kPointer = static_cast<std::uint32_t>(offsetof(seccomp_data, instruction_pointer));
  constexpr std::uint32_t kLimit = kDataBase + kDataSize;
  std::array<sock_filter, 6> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kPointer + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kPointer),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kLimit, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  }};
  const sock_fprog program{filter.size(), filter.data()};
  must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
}

void map(std::uint64_t address, std::size_t size, int protection, int flags, int file) {
  void* wanted = std::bit_cast<void*>(address);
  must(mmap(wanted, size, protection, flags | MAP_FIXED_NOREPLACE | MAP_POPULATE, file, 0) == wanted, "mmap");
}

void set_local_segments() {
  for (unsigned i = 1; i < kLocalSegments.size(); ++i) {
    const LocalSegment& segment = kLocalSegments[i];
    user_desc wanted{};
    wanted.entry_number = i;
    wanted.base_addr = segment.base;
    wanted.limit = segment.limit;
    wanted.seg_32bit = segment.big;
    wanted.contents = segment.contents;
    wanted.read_exec_only = segment.read_only;
    wanted.seg_not_present = !segment.present;
    constexpr int kWrite = 0x11;
    must(syscall(SYS_modify_ldt, kWrite, &wanted, sizeof wanted) == 0, "modify_ldt");
  }
}

void fill_read_only_page(const Memory& memory) {
  void* page = std::bit_cast<void*>(kDataBase + kWritableSize);
  constexpr std::size_t kSize = kDataSize - kWritableSize;
  must(mprotect(page, kSize, PROT_READ | PROT_WRITE) == 0, "mprotect");
  std::memcpy(page, memory.data() + kWritableSize / 8, kSize);
  must(mprotect(page, kSize, PROT_READ) == 0, "mprotect");
}

/// To doppel_fuzz_isa_end().
void make_way_out() {
  map(kWayOut, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  auto* code = std::bit_cast<std::uint8_t*>(kWayOut);
  // jmp [rip + 2]: the pointer is aligned, for AC may be set.
  constexpr std::array<std::uint8_t, 8> kJump{0xFF, 0x25, 2};
  const auto target = reinterpret_cast<std::uint64_t>(&doppel_fuzz_isa_end);
  std::memcpy(code, kJump.data(), kJump.size());
  std::memcpy(code + kJump.size(), &target, sizeof target);
  must(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0, "mprotect");
}

}  // namespace

const char* NativeProcessor::obstacle() {
  constexpr unsigned long kFsgsbase = 2;  // AT_HWCAP2, arch/x86/include/uapi/asm/hwcap2.h
  if (__builtin_cpu_supports("avx2") == 0) return "the processor has no AVX2";
  if ((getauxval(AT_HWCAP2) & kFsgsbase) == 0) return "the kernel does not let programs set their GS base";
  // Where processors differ the cases follow AMD's; Intel's differences have not been gone through.
  return __builtin_cpu_is("amd") != 0 ? nullptr : "the processor is not AMD's";
}

NativeProcessor::NativeProcessor() {
  void* shared =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  must(shared != MAP_FAILED, "mmap");
  shared_ = static_cast<Shared*>(shared);
  code_memory_ = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
  must(code_memory_ >= 0 && ftruncate(code_memory_, kCodeSize) == 0, "memfd_create");
}

NativeProcessor::~NativeProcessor() {
  stop();
  close(code_memory_);
  munmap(shared_, sizeof(Shared));
}

void NativeProcessor::start() {
  std::array<int, 2> requests{}, replies{};
  must(pipe2(requests.data(), O_CLOEXEC) == 0 && pipe2(replies.data(), O_CLOEXEC) == 0, "pipe2");
  child_ = fork();
  must(child_ >= 0, "fork");
  if (child_ == 0) {
    close(requests[1]);
    close(replies[0]);
    serve(requests[0], replies[1]);
  }
  close(requests[0]);
  close(replies[1]);
  request_ = UniqueFd(requests[1]);
  reply_ = UniqueFd(replies[0]);
}

void NativeProcessor::stop() {
  if (child_ < 0) return;
  request_.reset();
  reply_.reset();
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  child_ = -1;
}

void NativeProcessor::serve(int requests, int replies) {
  try {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    map(kCodeBase, kCodeSize, PROT_READ | PROT_EXEC, MAP_SHARED, code_memory_);
    map(kDataBase, kDataSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map(kFrame, kFrameSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map(kHome, sizeof(NativeHome), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    asm volatile("rdfsbase %0" : "=r"(std::bit_cast<NativeHome*>(kHome)->fs_base));
    make_way_out();
    set_local_segments();
    catch_signals();
    forbid_system_calls();
    for (char command = 0; read(requests, &command, 1) == 1;) {
      fill_read_only_page(shared_->memory);
      world.count = shared_->count;
      world.start = shared_->start.data();
      world.outcome = shared_->outcome.data();
      world.memory = &shared_->memory;
      world.data = std::bit_cast<std::uint64_t*>(kDataBase);
      world.last_memory = shared_->last_memory.data();
      doppel_fuzz_isa_run();
      if (write(replies, &command, 1) != 1) break;
    }
  } catch (const std::exception& error) {
    dprintf(STDERR_FILENO, "the native side: %s\n", error.what());
  }
  _exit(0);
}

std::span<const Outcome> NativeProcessor::run(std::span<const Case> cases, std::span<const std::uint8_t> code,
                                              const Memory& memory) {
  must(pwrite(code_memory_, code.data(), code.size(), 0) == static_cast<ssize_t>(code.size()), "pwrite");
  shared_->count = cases.size();
  shared_->memory = memory;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    shared_->start[i] = cases[i].start;
    shared_->outcome[i].kind = Outcome::Kind::NotRun;
  }
  if (child_ < 0) start();
  char byte = 0;
  if (write(request_.get(), &byte, 1) != 1 || read(reply_.get(), &byte, 1) != 1) stop();
  return {shared_->outcome.data(), cases.size()};
}

bool NativeProcessor::has_memory_at(std::uint64_t address) {
  if (address - kFrame < kFrameSize || address - kHome < sizeof(NativeHome)) return true;
  // Ours is the same: it is a fork, and the case may have ended it.
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t start = 0, end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> start >> dash >> end;
    if (address >= start && address < end) return true;
  }
  return false;
}

std::vector<std::uint8_t> NativeProcessor::memory_after(const Case& made, std::span<const std::uint8_t> code,
                                                        const Memory& memory) {
  run(std::span(&made, 1), code, memory);
  return {shared_->last_memory.begin(), shared_->last_memory.end()};
}

}  // namespace doppel::fuzz_isa
