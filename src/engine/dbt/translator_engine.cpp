#include <sys/auxv.h>

#include <stdexcept>
#include <utility>

#include "engine/dbt/runner.h"
#include "engine/engine.h"

namespace doppel::engine {

namespace {

class TranslatorEngine : public Engine {
 public:
  std::string_view name() const override { return "dbt"; }

  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    if (shared_ == nullptr) {
      shared_ = std::make_unique<dbt::Shared>(ports.memory);
      interpreter_ = interp::Shared::create(ports);
    }
    Result<dbt::Runner::Parts> parts = dbt::Runner::allocate(kCodeBytes);
    if (!parts) throw std::runtime_error(parts.error().message);
    return std::make_unique<dbt::Runner>(ports, *shared_, std::move(*parts),
                                         std::make_unique<interp::Runner>(ports, *interpreter_));
  }

 private:
  static constexpr std::size_t kCodeBytes = std::size_t{64} << 20;

  std::unique_ptr<dbt::Shared> shared_;
  std::unique_ptr<interp::Shared> interpreter_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_translator() {
  constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE: the processor has it and the kernel allows it
  if (!__builtin_cpu_supports("bmi2") || (getauxval(AT_HWCAP2) & kFsgsbase) == 0)
    return Error{
        "the translator needs a host with BMI2 and FSGSBASE (a processor of 2013 or later, Linux 5.9 or later)"};
  if (Result<dbt::Runner::Parts> trial = dbt::Runner::allocate(std::size_t{1} << 20); !trial) return trial.error();
  return std::unique_ptr<Engine>(std::make_unique<TranslatorEngine>());
}

}  // namespace doppel::engine
