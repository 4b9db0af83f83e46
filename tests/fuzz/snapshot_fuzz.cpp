#include <sys/mman.h>
#include <sys/socket.h>
#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/temporary_directory.h"
#include "machine/machine.h"
#include "snapshot/archive.h"
#include "snapshot/manifest.h"
#include "snapshot/store.h"

namespace {

using doppel::machine::Machine;
using doppel::machine::MachineConfig;
using doppel::machine::SavedMachine;
using Bytes = std::span<const std::byte>;

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void read_manifest(Bytes bytes) {
  const auto manifest = doppel::snapshot::parse_manifest(text_of(bytes));
  if (!manifest) return;
  const auto again = doppel::snapshot::parse_manifest(doppel::snapshot::format_manifest(*manifest));
  if (!again) std::abort();
}

MachineConfig small_machine() {
  MachineConfig config;
  config.name = "fuzz";
  config.memory_bytes = std::uint64_t{128} << 20;
  config.engine = doppel::machine::EngineKind::Interpreter;
  config.no_reboot = true;
  config.vsock_listener = std::make_shared<doppel::UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return config;
}

/// With what else can be saved.
MachineConfig large_machine() {
  constexpr int kDiskBytes = 1 << 20;
  MachineConfig config = small_machine();
  config.cpus = 2;
  config.virtio_console = true;
  config.balloon = true;
  config.networks.emplace_back();
  const auto file = std::make_shared<doppel::UniqueFd>(::memfd_create("disk", MFD_CLOEXEC));
  if (::ftruncate(file->get(), kDiskBytes) != 0) std::abort();
  doppel::machine::DiskConfig disk;
  disk.path = "/proc/self/fd/" + std::to_string(file->get());
  disk.file = file;
  disk.options.format = "raw";
  config.disks.push_back(std::move(disk));
  return config;
}

/// A machine that goes on from any bytes: refused, or it runs for a moment whatever they make of it.
void go_on(MachineConfig config, Bytes clock, Bytes components) {
  auto saved = std::make_shared<SavedMachine>();
  saved->state.clock.assign(clock.begin(), clock.end());
  saved->state.components.assign(components.begin(), components.end());
  config.saved = saved;
  auto machine = Machine::create(std::move(config));
  if (!machine) return;
  (*machine)->stop();
  if (!(*machine)->run()) std::abort();
}

/// What an archive holds before zstd, so that no checksum stands in the way.
void import(Bytes bytes) {
  const doppel::test::TemporaryDirectory directory;
  std::vector<char> packed(ZSTD_compressBound(bytes.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 1));
  std::ofstream(directory / "archive", std::ios::binary)
      .write(packed.data(), static_cast<std::streamsize>(packed.size()));
  const doppel::snapshot::Store store(directory / "store");
  const auto reference = doppel::snapshot::import_snapshot(store, directory / "archive", std::nullopt);
  if (!reference) return;
  const auto manifest = store.find(*reference);
  if (!manifest || !store.open(*manifest) || !store.verify(*manifest)) std::abort();
}

}  // namespace

/// The first byte says what the others are: a manifest, the state of processors and devices of a small machine or of
/// one with all devices, a clock, or an archive.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = doppel::log::configure(doppel::log::Level::Off, "").ok();
  if (size == 0 || !quiet) return 0;
  const Bytes bytes = std::as_bytes(std::span{data, size}).subspan(1);
  constexpr unsigned kKinds = 5;
  switch (data[0] % kKinds) {
    case 0:
      read_manifest(bytes);
      break;
    case 1:
      go_on(small_machine(), {}, bytes);
      break;
    case 2:
      go_on(large_machine(), {}, bytes);
      break;
    case 3:
      go_on(small_machine(), bytes, {});
      break;
    default:
      import(bytes);
      break;
  }
  return 0;
}
