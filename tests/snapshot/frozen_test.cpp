// Snapshots of the past stay readable. A sample is never made anew: one that no longer loads shows a change of a
// component's fields that needs to take the old ones, too.

#include <gtest/gtest.h>
#include <sys/socket.h>

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

}  // namespace
}  // namespace doppel::snapshot
