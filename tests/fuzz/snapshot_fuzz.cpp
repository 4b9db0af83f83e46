#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

#include "base/log.h"
#include "machine/machine.h"
#include "snapshot/manifest.h"

namespace {

using doppel::machine::Machine;
using doppel::machine::MachineConfig;
using doppel::machine::SavedMachine;

void read_manifest(std::string_view text) {
  const auto manifest = doppel::snapshot::parse_manifest(text);
  if (!manifest) return;
  const auto again = doppel::snapshot::parse_manifest(doppel::snapshot::format_manifest(*manifest));
  if (!again) std::abort();
}

/// A machine of one processor that goes on from any bytes: refused, or it runs for a moment whatever they make of it.
void go_on(std::span<const std::byte> components) {
  MachineConfig config;
  config.name = "fuzz";
  config.memory_bytes = std::uint64_t{128} << 20;
  config.engine = doppel::machine::EngineKind::Interpreter;
  config.no_reboot = true;
  config.vsock_listener = std::make_shared<doppel::UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto saved = std::make_shared<SavedMachine>();
  saved->state.components.assign(components.begin(), components.end());
  config.saved = saved;
  auto machine = Machine::create(std::move(config));
  if (!machine) return;
  (*machine)->stop();
  if (!(*machine)->run()) std::abort();
}

}  // namespace

/// The first byte says what the others are: a manifest, or the state of processors and devices.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = doppel::log::configure(doppel::log::Level::Off, "").ok();
  if (size == 0 || !quiet) return 0;
  const auto bytes = std::as_bytes(std::span{data, size}).subspan(1);
  if (data[0] % 2 == 0) {
    read_manifest({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } else {
    go_on(bytes);
  }
  return 0;
}
