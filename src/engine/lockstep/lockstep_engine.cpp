#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "engine/dbt/runner.h"
#include "engine/engine.h"
#include "engine/lockstep/checker.h"

namespace doppel::engine {

namespace {

class LockstepRunner : public dbt::Runner {
 public:
  LockstepRunner(const x86::CpuPorts& ports, dbt::Shared& shared, Parts parts, interp::Shared& interpreter,
                 const LockstepOptions& options)
      : dbt::Runner(ports, shared, std::move(parts), std::make_unique<interp::Runner>(ports, interpreter)),
        checker_(cpu(), interpreter, options) {
    set_observer(&checker_);
  }
  ~LockstepRunner() override { set_observer(nullptr); }

  nlohmann::json stats() const override {
    nlohmann::json json = dbt::Runner::stats();
    json["lockstep"] = checker_.stats();
    return json;
  }

 private:
  lockstep::Checker checker_;
};

class LockstepEngine : public Engine {
 public:
  LockstepEngine(const LockstepOptions& options, const TranslatorOptions& translator)
      : options_(options), translator_(translator) {}
  std::string_view name() const override { return "lockstep"; }

  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    if (shared_ != nullptr) throw std::runtime_error("lockstep checks one processor, not several");
    shared_ = std::make_unique<dbt::Shared>(ports.memory);
    interpreter_ = interp::Shared::create(ports);
    Result<dbt::Runner::Parts> parts = dbt::Runner::allocate(translator_.code_bytes);
    if (!parts) throw std::runtime_error(parts.error().message);
    return std::make_unique<LockstepRunner>(ports, *shared_, std::move(*parts), *interpreter_, options_);
  }

 private:
  const LockstepOptions options_;
  const TranslatorOptions translator_;
  std::unique_ptr<dbt::Shared> shared_;
  std::unique_ptr<interp::Shared> interpreter_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_lockstep(const LockstepOptions& options, const TranslatorOptions& translator) {
  if (Result<std::unique_ptr<Engine>> trial = make_translator(); !trial) return trial.error();
  return std::unique_ptr<Engine>(std::make_unique<LockstepEngine>(options, translator));
}

}  // namespace doppel::engine
