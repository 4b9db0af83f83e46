#include <mutex>
#include <utility>

#include "engine/engine.h"
#include "engine/interp/handlers.h"
#include "engine/interp/runner.h"

namespace doppel::engine {

namespace {

/// All Contexts are laid out alike, so generated code finds the CpuState at the same distance in each.
std::size_t state_offset(const x86::CpuPorts& ports, std::mutex& lock) {
  const interp::Context context(ports, lock);
  return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&context.cpu.state) -
                                  reinterpret_cast<const std::byte*>(static_cast<const isa::ThunkContext*>(&context)));
}

class Interpreter : public Engine {
 public:
  std::string_view name() const override { return "interp"; }

  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    if (shared_ == nullptr) prepare(ports);
    return std::make_unique<interp::Runner>(ports, *shared_);
  }

 private:
  void prepare(const x86::CpuPorts& ports) {
    std::mutex unused;
    isa::ThunkEnvironment environment;
    environment.state_offset = state_offset(ports, unused);
    environment.memory_miss = interp::memory_miss;
    environment.stored_to_code = interp::stored_to_code;
    environment.host_fault = interp::host_fault;
    Result<std::unique_ptr<isa::ThunkCache>> thunks = isa::ThunkCache::create(environment);
    if (!thunks) throw std::runtime_error(thunks.error().message);
    shared_ = std::make_unique<interp::Shared>(ports.cpuid, std::move(*thunks));
  }

  std::unique_ptr<interp::Shared> shared_;
};

}  // namespace

std::unique_ptr<Engine> make_interpreter() {
  return std::make_unique<Interpreter>();
}

}  // namespace doppel::engine
