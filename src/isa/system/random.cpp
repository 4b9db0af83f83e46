#include <immintrin.h>

#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"

/// RDRAND and RDSEED, by the host's own: CPUID reports them only where it has them.
namespace doppel::isa {
namespace {

using x86::Cpu;
using Feature = x86::CpuidModel::Feature;

__attribute__((target("rdrnd"))) bool host_rdrand(unsigned long long& value) {
  return _rdrand64_step(&value) != 0;
}
__attribute__((target("rdseed"))) bool host_rdseed(unsigned long long& value) {
  return _rdseed64_step(&value) != 0;
}

template <Feature kFeature, bool (*kHost)(unsigned long long&)>
void random(Cpu& cpu, const Insn& insn) {
  require_feature(cpu, kFeature);
  unsigned long long value = 0;
  const bool available = kHost(value);
  write_gpr(cpu.state, insn.op[0].reg, insn.operand_size, available ? value : 0);
  set_flags(cpu.state, x86::rflags::kStatus, available ? x86::rflags::kCf : 0);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_RDRAND, random<Feature::Rdrand, host_rdrand>},
    {ZYDIS_MNEMONIC_RDSEED, random<Feature::Rdseed, host_rdseed>},
};

}  // namespace

std::span<const SystemEntry> random_ops() {
  return kOps;
}

}  // namespace doppel::isa
