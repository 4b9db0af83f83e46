#include "engine/direct/stub.h"

#include <asm/unistd.h>
#include <asmjit/x86.h>
#include <ucontext.h>

#include <cerrno>
#include <csignal>
#include <span>

#include "engine/direct/gs.h"

namespace doppel::engine::direct {

namespace {

namespace host = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

constexpr std::int32_t kRip =
    static_cast<std::int32_t>(offsetof(ucontext_t, uc_mcontext.gregs) + REG_RIP * sizeof(greg_t));

/// Labels of what the pieces lead to.
struct Labels {
  explicit Labels(Assembler& a)
      : wait(a.newLabel()),
        entry(a.newLabel()),
        entered(a.newLabel()),
        exit(a.newLabel()),
        kicked(a.newLabel()),
        hand_back(a.newLabel()),
        handler(a.newLabel()),
        restorer(a.newLabel()),
        end(a.newLabel()) {}
  Label wait, entry, entered, exit, kicked, hand_back, handler, restorer, end;
};

/// Writes the time down; clobbers rax and rdx.
void emit_stamp(Assembler& a, std::size_t offset) {
  a.rdtsc();
  a.shl(host::rdx, 32);
  a.or_(host::rax, host::rdx);
  a.mov(gs(offset), host::rax);
}

/// Waits for its turn, or the monitor's end; makes the system calls that it is asked for, and goes to the guest's code.
void emit_entry(Assembler& a, const Labels& labels, std::uint64_t base) {
  const Label commands = a.newLabel(), next = a.newLabel(), failed = a.newLabel();
  const std::uint64_t byte = base + offsetof(Shared, stack);
  a.bind(labels.wait);
  a.mov(host::edi, kTurnsFd);
  a.mov(host::rsi, byte);
  a.mov(host::edx, 1);
  a.mov(host::eax, __NR_read);
  a.syscall();
  a.cmp(host::rax, 1);
  a.je(commands);
  a.cmp(host::rax, -EINTR);
  a.je(labels.wait);
  a.xor_(host::edi, host::edi);
  a.mov(host::eax, __NR_exit_group);
  a.syscall();

  a.bind(commands);
  a.xor_(host::ebx, host::ebx);
  a.bind(next);
  a.cmp(host::ebx, gs(offsetof(Shared, command_count), 4));
  a.jae(labels.entry);
  a.imul(host::r12, host::rbx, sizeof(Command));
  const auto of_command = [](std::size_t offset) {
    host::Mem mem = gs(offsetof(Shared, commands) + offset, 8);
    mem.setIndex(host::r12);
    return mem;
  };
  const auto argument = [&](std::size_t i) { return of_command(offsetof(Command, argument) + 8 * i); };
  a.mov(host::rax, of_command(offsetof(Command, number)));
  a.mov(host::rdi, argument(0));
  a.mov(host::rsi, argument(1));
  a.mov(host::rdx, argument(2));
  a.mov(host::r10, argument(3));
  a.mov(host::r8, argument(4));
  a.mov(host::r9, argument(5));
  a.syscall();
  constexpr std::int32_t kLastError = -4095;
  a.cmp(host::rax, kLastError);
  a.jae(failed);
  a.inc(host::ebx);
  a.jmp(next);
  a.bind(failed);
  a.mov(gs(offsetof(Shared, commands_done), 4), host::ebx);
  a.mov(gs(offsetof(Shared, command_error), 4), host::eax);
  a.mov(gs(offsetof(Shared, reason), 4), static_cast<std::uint32_t>(Reason::CommandFailed));
  a.jmp(labels.hand_back);

  a.bind(labels.entry);
  a.cmp(gs(offsetof(Shared, kicked), 4), 0);
  a.jne(labels.kicked);
  emit_stamp(a, offsetof(Shared, began));
  a.mov(host::eax, kXsaveComponents);
  a.xor_(host::edx, host::edx);
  a.xrstor64(gs(offsetof(Shared, xsave), 0));
  a.mov(host::rax, gs(offsetof(Shared, fs_base)));
  a.wrfsbase(host::rax);
  a.mov(host::rsp, base + offsetof(Shared, stack) + sizeof(Shared::stack));
  a.push(gs(offsetof(Shared, rflags)));
  a.popfq();
  for (unsigned i = 0; i < 16; ++i) a.mov(host::gpq(i), gs(offsetof(Shared, gpr) + 8 * std::size_t{i}));
  a.jmp(gs(offsetof(Shared, entry)));
  a.bind(labels.entered);
}

/// Puts the guest's state where the monitor finds it, and gives it its turn.
void emit_exit(Assembler& a, const Labels& labels, std::uint64_t base) {
  a.bind(labels.exit);
  for (unsigned i = 0; i < 16; ++i) a.mov(gs(offsetof(Shared, gpr) + 8 * std::size_t{i}), host::gpq(i));
  a.mov(host::rsp, base + offsetof(Shared, stack) + sizeof(Shared::stack));
  a.pushfq();
  a.pop(gs(offsetof(Shared, rflags)));
  a.cld();
  a.mov(host::eax, kXsaveComponents);
  a.xor_(host::edx, host::edx);
  a.xsave64(gs(offsetof(Shared, xsave), 0));
  emit_stamp(a, offsetof(Shared, ended));
  a.mov(gs(offsetof(Shared, reason), 4), static_cast<std::uint32_t>(Reason::Exit));
  a.jmp(labels.hand_back);

  a.bind(labels.kicked);
  a.mov(gs(offsetof(Shared, reason), 4), static_cast<std::uint32_t>(Reason::Kicked));

  a.bind(labels.hand_back);
  a.mov(host::edi, kMonitorFd);
  a.mov(host::rsi, base + offsetof(Shared, stack));
  a.mov(host::edx, 1);
  a.mov(host::eax, __NR_write);
  a.syscall();
  a.jmp(labels.wait);
}

/// rdi: the signal; rdx: where its frame is. In guest code it hands back, from where it never returns. A kick on the
/// way there turns it back; before, Shared::kicked tells; on the way out it comes too late to matter. Any other signal
/// outside of guest code is a bug.
void emit_handler(Assembler& a, const Labels& labels, std::uint64_t code_end) {
  const Label outside = a.newLabel(), ignore = a.newLabel(), die = a.newLabel();
  a.bind(labels.handler);
  a.mov(host::rax, host::qword_ptr(host::rdx, kRip));
  a.lea(host::rcx, host::ptr(labels.end));
  a.cmp(host::rax, host::rcx);
  a.jb(outside);
  a.mov(host::rcx, code_end);
  a.cmp(host::rax, host::rcx);
  a.jae(outside);
  a.mov(gs(offsetof(Shared, frame)), host::rdx);
  a.mov(gs(offsetof(Shared, signal), 4), host::edi);
  emit_stamp(a, offsetof(Shared, ended));
  a.mov(gs(offsetof(Shared, reason), 4), static_cast<std::uint32_t>(Reason::Signal));
  a.jmp(labels.hand_back);

  a.bind(outside);
  a.cmp(host::edi, kKick);
  a.jne(die);
  a.lea(host::rcx, host::ptr(labels.entry));
  a.cmp(host::rax, host::rcx);
  a.jb(ignore);
  a.lea(host::rcx, host::ptr(labels.entered));
  a.cmp(host::rax, host::rcx);
  a.jae(ignore);
  a.lea(host::rcx, host::ptr(labels.kicked));
  a.mov(host::qword_ptr(host::rdx, kRip), host::rcx);
  a.bind(ignore);
  a.ret();

  a.bind(die);
  a.mov(host::eax, __NR_exit_group);
  a.syscall();

  a.bind(labels.restorer);
  a.mov(host::eax, __NR_rt_sigreturn);
  a.syscall();
  a.bind(labels.end);
}

}  // namespace

Result<Stub> Stub::emit(dbt::CodeCache& cache, std::uint64_t base) {
  const std::byte* at = cache.room();
  asmjit::CodeHolder code;
  code.init(asmjit::Environment::host(), reinterpret_cast<std::uint64_t>(at));
  Assembler assembler(&code);
  const Labels labels(assembler);
  emit_entry(assembler, labels, base);
  emit_exit(assembler, labels, base);
  emit_handler(assembler, labels,
               reinterpret_cast<std::uint64_t>(cache.executable().data()) + cache.executable().size());
  code.flatten();
  code.resolveUnresolvedLinks();
  const asmjit::CodeBuffer& buffer = code.sectionById(0)->buffer();
  if (cache.add_permanent(std::as_bytes(std::span{buffer.data(), buffer.size()})) == nullptr)
    return Error{"no room for the code that runs guest programs directly"};
  const auto address = [&](const Label& label) { return at + code.labelOffset(label); };
  return Stub{address(labels.wait), address(labels.kicked), address(labels.exit), address(labels.handler),
              address(labels.restorer)};
}

}  // namespace doppel::engine::direct
