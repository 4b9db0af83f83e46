// `doppel run --engine lockstep`: the translator executes the default guest as the interpreter does.

#include <gtest/gtest.h>

#include "guest/snapshots_fixture.h"

namespace doppel::test {
namespace {

TEST(Lockstep, AWholeBootShowsNoDifference) {
  DoppelProcess machine({"run", "--engine", "lockstep", "--memory", "512M", "-c", "true"});
  machine.close_input();
  // Minutes on a processor of its own; others may be at work on it.
  EXPECT_EQ(machine.wait(std::chrono::minutes(23)), 0) << machine.errors();
}

/// A difference that is hours away: where it begins is sought among snapshots of the translator's run.
TEST_F(Snapshots, GoOnInLockstep) {
  start("long", {"--memory", "192M", "--engine", "dbt"});
  guest("long", "true");
  ok({"snapshot", "create", "long", "later"});
  start("checked", {"--from", "long:later", "--engine", "lockstep"});
  EXPECT_EQ(guest("checked", "seq 1 1000 | md5sum"), guest("long", "seq 1 1000 | md5sum"));
  const std::string stats = nlohmann::json::parse(ok({"stats", "checked", "--json"})).dump();
  EXPECT_NE(stats.find("\"blocks_compared\":"), std::string::npos) << stats;
  EXPECT_EQ(stats.find("\"blocks_compared\":0,"), std::string::npos) << stats;
}

TEST(Lockstep, SeveralProcessorsAreRefused) {
  const RunResult result = run_doppel({"run", "--engine", "lockstep", "--cpus", "2", "-c", "true"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.errors.find("--cpus 1"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace doppel::test
