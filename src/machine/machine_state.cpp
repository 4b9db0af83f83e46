#include "machine/machine_state.h"

#include <algorithm>
#include <functional>

#include "state/snapshot_io.h"
#include "x86/attention.h"

namespace doppel::machine {
namespace {

struct Component {
  std::uint32_t number;
  std::string name;
  std::function<void(state::Visitor&)> describe;
};

/// Adapts a component to Visitor::field.
struct Described {
  const std::function<void(state::Visitor&)>& function;
  void describe(state::Visitor& visitor) { function(visitor); }
};

std::vector<Component> components(std::vector<ProcessorState>& processors, const std::vector<bus::Device*>& devices) {
  std::vector<Component> all;
  for (std::size_t i = 0; i < processors.size(); ++i) {
    ProcessorState& processor = processors[i];
    const std::string name = "cpu" + std::to_string(i);
    all.push_back({component_number(name), name, [&processor](state::Visitor& v) { processor.describe(v); }});
  }
  for (bus::Device* const device : devices) {
    const std::string name(device->name());
    all.push_back({component_number(name), name, [device](state::Visitor& v) { device->describe(v); }});
  }
  return all;
}

void describe_all(const std::vector<Component>& all, state::Visitor& visitor) {
  for (const Component& component : all) {
    Described described{component.describe};
    visitor.field(component.number, component.name, described);
  }
}

}  // namespace

const std::uint32_t ProcessorState::kSignals = x86::Attention::kNmi | x86::Attention::kInit | x86::Attention::kSipi;

void ProcessorState::describe(state::Visitor& visitor) {
  visitor.field(1, "cpu", cpu);
  visitor.field(2, "attention", attention);
  visitor.require((attention & ~kSignals) == 0, "a processor waits for what does not exist");
  visitor.field(3, "sipi_vector", sipi_vector);
  // Loading another value is a fault of the host's.
  constexpr std::uint32_t kMxcsrBits = 0xFFFF;
  visitor.require((cpu.fpu.mxcsr & ~kMxcsrBits) == 0, "MXCSR has reserved bits");
}

std::uint32_t component_number(const std::string& name) {
  // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv
  std::uint32_t hash = 0x811C'9DC5;
  for (const char c : name) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x0100'0193;
  return hash;
}

std::vector<std::byte> save_components(std::vector<ProcessorState>& processors,
                                       const std::vector<bus::Device*>& devices) {
  const std::vector<Component> all = components(processors, devices);
  return state::save([&all](state::Visitor& v) { describe_all(all, v); });
}

Result<void> load_components(std::span<const std::byte> bytes, std::vector<ProcessorState>& processors,
                             const std::vector<bus::Device*>& devices) {
  const std::vector<Component> all = components(processors, devices);
  return state::load(bytes, [&all](state::Visitor& v) { describe_all(all, v); });
}

}  // namespace doppel::machine
