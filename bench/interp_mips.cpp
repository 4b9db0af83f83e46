#include <chrono>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/long_mode.h"

/// Guest instructions a second on the interpreter, for kernels in 64-bit mode, three of integer code and one of
/// floating point.
///   bench_interp_mips [KERNEL]
namespace {

using namespace doppel;
using asmjit::Label;
using asmjit::x86::Assembler;
namespace r = asmjit::x86;

/// Registers only: a linear congruential generator and what it feeds.
void registers(Assembler& a) {
  const Label loop = a.newLabel();
  a.mov(r::rcx, 100'000'000);
  a.mov(r::rax, 1);
  a.bind(loop);
  a.imul(r::rax, r::rax, 1103515245);
  a.add(r::rax, 12345);
  a.mov(r::rdx, r::rax);
  a.shr(r::rdx, 16);
  a.xor_(r::rbx, r::rdx);
  a.lea(r::rsi, r::ptr(r::rbx, r::rdx, 1, 8));
  a.add(r::rdi, r::rsi);
  a.dec(r::rcx);
  a.jnz(loop);
  a.hlt();
}

/// Bubble sort of 256 numbers, over and over: loads, stores, compares, unpredictable branches.
void sort(Assembler& a) {
  const Label again = a.newLabel(), fill = a.newLabel(), outer = a.newLabel(), inner = a.newLabel(),
              no_swap = a.newLabel();
  a.mov(r::r12, 2000);
  a.mov(r::rbx, engine::test::kDataAddress);
  a.bind(again);
  a.xor_(r::ecx, r::ecx);
  a.mov(r::eax, 12345);
  a.bind(fill);
  a.imul(r::eax, r::eax, 1103515245);
  a.add(r::eax, 12345);
  a.mov(r::dword_ptr(r::rbx, r::rcx, 2), r::eax);
  a.inc(r::rcx);
  a.cmp(r::rcx, 256);
  a.jne(fill);
  a.mov(r::edx, 255);
  a.bind(outer);
  a.xor_(r::ecx, r::ecx);
  a.bind(inner);
  a.mov(r::eax, r::dword_ptr(r::rbx, r::rcx, 2));
  a.mov(r::esi, r::dword_ptr(r::rbx, r::rcx, 2, 4));
  a.cmp(r::eax, r::esi);
  a.jbe(no_swap);
  a.mov(r::dword_ptr(r::rbx, r::rcx, 2), r::esi);
  a.mov(r::dword_ptr(r::rbx, r::rcx, 2, 4), r::eax);
  a.bind(no_swap);
  a.inc(r::rcx);
  a.cmp(r::ecx, r::edx);
  a.jb(inner);
  a.dec(r::edx);
  a.jnz(outer);
  a.dec(r::r12);
  a.jnz(again);
  a.hlt();
}

/// fib(32) by recursion: calls, returns, the stack.
void recursion(Assembler& a) {
  const Label fib = a.newLabel(), small = a.newLabel(), start = a.newLabel();
  a.jmp(start);
  a.bind(fib);
  a.cmp(r::rdi, 2);
  a.jb(small);
  a.push(r::rbx);
  a.push(r::rdi);
  a.sub(r::rdi, 1);
  a.call(fib);
  a.mov(r::rbx, r::rax);
  a.pop(r::rdi);
  a.sub(r::rdi, 2);
  a.call(fib);
  a.add(r::rax, r::rbx);
  a.pop(r::rbx);
  a.ret();
  a.bind(small);
  a.mov(r::rax, r::rdi);
  a.ret();
  a.bind(start);
  a.mov(r::rdi, 34);
  a.call(fib);
  a.hlt();
}

/// Scalar and packed floating point, which rounds and may raise exceptions.
void floating(Assembler& a) {
  const Label loop = a.newLabel();
  a.mov(r::ecx, 5'000'000);
  a.mov(r::eax, 3);
  a.cvtsi2sd(r::xmm0, r::eax);
  a.cvtsi2sd(r::xmm1, r::eax);
  a.bind(loop);
  a.mulsd(r::xmm0, r::xmm1);
  a.addsd(r::xmm0, r::xmm1);
  a.sqrtsd(r::xmm0, r::xmm0);
  a.addps(r::xmm2, r::xmm3);
  a.vfmadd231ps(r::ymm4, r::ymm5, r::ymm6);
  a.movaps(r::xmm7, r::xmm0);
  a.dec(r::ecx);
  a.jnz(loop);
  a.hlt();
}

struct Kernel {
  const char* name;
  void (*write)(Assembler&);
};
constexpr Kernel kKernels[] = {
    {"registers", registers}, {"sort", sort}, {"recursion", recursion}, {"floating", floating}};

class Bench : public x86::test::CpuTest {
 public:
  void TestBody() override {}

  void run(const Kernel& kernel) {
    const auto code = engine::test::assemble(engine::test::kCodeAddress, kernel.write);
    EXPECT_TRUE(memory.write(engine::test::kCodeAddress, code));
    const auto interpreter = engine::make_interpreter();
    const auto vcpu = interpreter->create_vcpu({memory, io, clock, cpuid, attention});
    vcpu->load(engine::test::long_mode(memory));
    const auto start = std::chrono::steady_clock::now();
    const engine::Exit exit = vcpu->run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    x86::CpuState state;
    vcpu->store(state);
    const auto instructions = vcpu->stats()["instructions"].get<double>();
    std::printf("%-10s %8.1f million instructions/s  (%.0f million in %.2f s, exit %d, rip %llx)\n", kernel.name,
                instructions / elapsed.count() / 1e6, instructions / 1e6, elapsed.count(),
                static_cast<int>(exit.reason), static_cast<unsigned long long>(state.rip));
  }
};

}  // namespace

int main(int argc, char** argv) try {
  for (const Kernel& kernel : kKernels) {
    if (argc > 1 && std::string_view(argv[1]) != kernel.name) continue;
    Bench bench;
    bench.run(kernel);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
