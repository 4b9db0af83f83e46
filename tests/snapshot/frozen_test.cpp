// Snapshots of the past stay readable. A sample is never made anew: one that no longer loads shows a change of a
// component's fields that needs to take the old ones, too.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/fd.h"
#include "machine/machine.h"
#include "snapshot/machine_manifest.h"
#include "snapshot/manifest.h"

namespace doppel::snapshot {
namespace {

/// The corpus of the fuzzer has a byte before each, which says what it is.
std::vector<std::byte> sample(const std::string& name) {
  const auto bytes = read_file(std::string(DOPPEL_GOLDEN_DIR) + "/../../fuzz/corpus/snapshot/" + name);
  EXPECT_TRUE(bytes) << bytes.error().message;
  return {bytes->begin() + 1, bytes->end()};
}

TEST(FrozenSnapshot, OfVersion1Loads) {
  const std::vector<std::byte> text = sample("manifest");
  const Result<Manifest> manifest = parse_manifest({reinterpret_cast<const char*>(text.data()), text.size()});
  ASSERT_TRUE(manifest) << manifest.error().message;
  Result<machine::MachineConfig> config = config_of(*manifest);
  ASSERT_TRUE(config) << config.error().message;
  config->engine = machine::EngineKind::Interpreter;
  config->vsock_listener = std::make_shared<UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto saved = std::make_shared<machine::SavedMachine>();
  saved->state.components = sample("components");
  config->saved = saved;
  const auto machine = machine::Machine::create(*std::move(config));
  ASSERT_TRUE(machine) << machine.error().message;
  EXPECT_NE((*machine)->cpu_state(0).cr3, 0U) << "a processor that had been running";
}

/// Of a machine with every device: two processors, disk, network card, balloon, virtio console, vsock.
TEST(FrozenSnapshot, OfARichMachineLoads) {
  machine::MachineConfig config;
  config.name = "rich";
  config.memory_bytes = std::uint64_t{128} << 20;
  config.cpus = 2;
  config.engine = machine::EngineKind::Interpreter;
  config.virtio_console = true;
  config.balloon = true;
  config.networks.emplace_back();
  config.vsock_listener = std::make_shared<UniqueFd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto disk = std::make_shared<UniqueFd>(::memfd_create("disk", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(disk->get(), 1 << 20), 0);
  config.disks.push_back(
      {.path = "/proc/self/fd/" + std::to_string(disk->get()), .serial = "", .options = {}, .file = disk});
  config.disks[0].options.format = "raw";
  auto saved = std::make_shared<machine::SavedMachine>();
  saved->state.clock = sample("clock");
  saved->state.components = sample("components-rich");
  config.saved = saved;
  const auto machine = machine::Machine::create(std::move(config));
  ASSERT_TRUE(machine) << machine.error().message;
  EXPECT_NE((*machine)->cpu_state(0).cr3, 0U);
  EXPECT_NE((*machine)->cpu_state(1).cr3, 0U);
  const auto state = (*machine)->inspect();
  for (const char* device : {"disk0", "net0", "console", "balloon", "vsock", "entropy"}) {
    EXPECT_NE(state.at(device).at("driver_features"), 0) << device << " had been in use";
  }
}

}  // namespace
}  // namespace doppel::snapshot
