#include <mutex>
#include <stdexcept>
#include <utility>

#include "engine/engine.h"
#include "engine/interp/handlers.h"
#include "engine/interp/runner.h"

namespace doppel::engine {

namespace interp {

namespace {

/// All Contexts are laid out alike, so generated code finds the CpuState at the same distance in each.
std::size_t state_offset(const x86::CpuPorts& ports, std::mutex& lock) {
  const Context context(ports, lock);
  return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&context.cpu.state) -
                                  reinterpret_cast<const std::byte*>(static_cast<const isa::ThunkContext*>(&context)));
}

}  // namespace

std::unique_ptr<Shared> Shared::create(const x86::CpuPorts& ports) {
  std::mutex unused;
  isa::ThunkEnvironment environment;
  environment.state_offset = state_offset(ports, unused);
  environment.memory_miss = memory_miss;
  environment.stored_to_code = stored_to_code;
  environment.host_fault = host_fault;
  Result<std::unique_ptr<isa::ThunkCache>> thunks = isa::ThunkCache::create(environment);
  if (!thunks) throw std::runtime_error(thunks.error().message);
  return std::make_unique<Shared>(ports.cpuid, std::move(*thunks));
}

}  // namespace interp

namespace {

class Interpreter : public Engine {
 public:
  std::string_view name() const override { return "interp"; }

  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    if (shared_ == nullptr) shared_ = interp::Shared::create(ports);
    return std::make_unique<interp::Runner>(ports, *shared_);
  }

 private:
  std::unique_ptr<interp::Shared> shared_;
};

}  // namespace

std::unique_ptr<Engine> make_interpreter() {
  return std::make_unique<Interpreter>();
}

}  // namespace doppel::engine
