#include <sys/auxv.h>

#include <stdexcept>
#include <utility>

#include "base/log.h"
#include "engine/dbt/runner.h"
#include "engine/engine.h"

namespace doppel::engine {

namespace {

class TranslatorEngine : public Engine {
 public:
  TranslatorEngine(const TranslatorOptions& options, std::unique_ptr<dbt::PerfMap> perf_map)
      : options_(options), perf_map_(std::move(perf_map)) {}
  std::string_view name() const override { return "dbt"; }

  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    if (shared_ == nullptr) {
      shared_ = std::make_unique<dbt::Shared>(ports.memory, std::move(perf_map_));
      interpreter_ = interp::Shared::create(ports);
    }
    Result<dbt::Runner::Parts> parts = dbt::Runner::allocate(options_.code_bytes);
    if (!parts) throw std::runtime_error(parts.error().message);
    if (options_.direct != DirectExecution::Never && ports.memory.shared_fd() >= 0) {
      Result<std::unique_ptr<direct::Process>> process =
          direct::Process::create(ports.memory.shared_fd(), options_.code_bytes);
      if (process) {
        parts->process = *std::move(process);
      } else {
        log::info("dbt", "guest programs do not run directly: {}", process.error().message);
      }
    }
    return std::make_unique<dbt::Runner>(ports, *shared_, std::move(*parts),
                                         std::make_unique<interp::Runner>(ports, *interpreter_), options_.direct);
  }

 private:
  const TranslatorOptions options_;
  std::unique_ptr<dbt::PerfMap> perf_map_;
  std::unique_ptr<dbt::Shared> shared_;
  std::unique_ptr<interp::Shared> interpreter_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_translator(const TranslatorOptions& options) {
  constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE: the processor has it and the kernel allows it
  if (!__builtin_cpu_supports("bmi2") || (getauxval(AT_HWCAP2) & kFsgsbase) == 0)
    return Error{
        "the translator needs a host with BMI2 and FSGSBASE (a processor of 2013 or later, Linux 5.9 or later)"};
  if (Result<dbt::Runner::Parts> trial = dbt::Runner::allocate(TranslatorOptions::kLeastCode); !trial)
    return trial.error();
  std::unique_ptr<dbt::PerfMap> perf_map;
  if (options.perf_map) {
    Result<std::unique_ptr<dbt::PerfMap>> made = dbt::PerfMap::create();
    if (!made) return made.error();
    perf_map = *std::move(made);
  }
  return std::unique_ptr<Engine>(std::make_unique<TranslatorEngine>(options, std::move(perf_map)));
}

}  // namespace doppel::engine
