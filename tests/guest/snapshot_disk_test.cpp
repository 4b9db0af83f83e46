// Machines with disks that are saved while they write them, and go on elsewhere. DOPPEL_SNAPSHOT_ROUNDS says how often,
// if not four times.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "guest/snapshots_fixture.h"

namespace doppel::test {
namespace {

using testing::HasSubstr;

constexpr const char* kPreparation = R"sh(
mkdir -p /a /b
mke2fs -q /dev/vda >/dev/null 2>&1 && mount /dev/vda /a || echo "no disk" >>/tmp/wrong
mke2fs -q /dev/vdb >/dev/null 2>&1 && mount /dev/vdb /b || echo "no second disk" >>/tmp/wrong
seq 1 30000 >/tmp/a
good=$(md5sum </tmp/a)
)sh";
/// Writes files and reads them back past the guest's cache, on both disks.
constexpr const char* kRound = R"sh(
  cp /tmp/a /a/f$((n % 20)); cp /tmp/a /b/f$((n % 20))
  [ $((n % 3)) != 0 ] || sync
  echo 1 >/proc/sys/vm/drop_caches
  for f in /a/f$((n % 20)) /b/f$((n % 20)) /a/f$(((n * 7 + 3) % 20)); do
    [ ! -e $f ] || [ "$(md5sum <$f)" = "$good" ] || echo "round $n: another sum of $f" >>/tmp/wrong
  done
)sh";

class SnapshotsWithDisks : public Snapshots {
 protected:
  SnapshotsWithDisks() {
    ok({"image", "create", "-q", "-f", "qcow2", file_, "256M"});
    ok({"image", "create", "-q", "-f", "raw", raw_, "64M"});
  }

  void start_with_disks() {
    start("web", {"--memory", "192M", "--cpus", "2", "--disk", file_, "--disk", raw_ + ",format=raw"});
    load("web", kPreparation, kRound);
  }
  /// Every file of a disk on the host.
  void check_images() {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path())) {
      if (entry.path().extension() == ".qcow2") ok({"image", "check", "-q", entry.path().string()});
    }
  }
  /// The tag of the oldest snapshot of all, or the next one.
  std::string nth_oldest(std::size_t n) {
    return nlohmann::json::parse(ok({"snapshot", "list", "web", "--json"})).at(n)["tag"];
  }
  static unsigned repetitions() {
    const char* const text = std::getenv("DOPPEL_SNAPSHOT_ROUNDS");
    return text == nullptr ? 4 : static_cast<unsigned>(std::atoi(text));
  }

  const std::string file_ = directory_ / "disk.qcow2", raw_ = directory_ / "disk.raw";
};

TEST_F(SnapshotsWithDisks, AWritingGuestGoesOnAgainAndAgainAcrossEngines) {
  constexpr std::array<const char*, 2> kEngines{"interp", "dbt"};
  start_with_disks();
  std::minstd_rand random(1);
  long before = 0;
  for (unsigned i = 0; i < repetitions(); ++i) {
    SCOPED_TRACE(i);
    const std::string tag = "t" + std::to_string(i);
    ::usleep(static_cast<useconds_t>(random() % 400'000));
    ok({"snapshot", "create", "web", tag, "-q"});
    ::usleep(static_cast<useconds_t>(random() % 400'000));
    ok({"snapshot", "restore", "web", tag, "--engine", kEngines[random() % 3 == 0 ? 0 : 1]});
    const long now = rounds("web");
    EXPECT_GE(now, before) << "work was lost";
    before = now;
    ASSERT_EQ(work("web"), "");
    // Some stay for a while, so that layers are freed and merged in any order.
    if (i >= 2 && random() % 4 != 0) ok({"snapshot", "delete", "web", nth_oldest(random() % 2)});
  }
  ok({"kill", "web"});
  check_images();
  const auto listed = nlohmann::json::parse(ok({"snapshot", "list", "web", "--json"}));
  for (const auto& entry : listed) {
    const std::string tag = entry["tag"];
    SCOPED_TRACE(tag);
    EXPECT_EQ(ok({"snapshot", "verify", "web", tag, "-q"}), "");
    ok({"snapshot", "restore", "web", tag});
    EXPECT_EQ(work("web"), "");
  }
  guest("web", "touch /tmp/stop; until [ -e /tmp/stopped ]; do usleep 10000; done; echo last >/a/marker; sync");
  ok({"kill", "web"});
  for (const auto& entry : listed) ok({"snapshot", "delete", "web", entry["tag"]});
  // Nothing is left but the files themselves, with what was written last.
  const RunResult result =
      run_doppel({"run", "--memory", "128M", "--disk", file_, "-c",
                  "mkdir /a; mount /dev/vda /a && cat /a/marker && md5sum /a/f* | cut -c1-32 | uniq | wc -l"});
  EXPECT_EQ(result.output, "last\n1\n") << result.errors;
  check_images();
}

TEST_F(SnapshotsWithDisks, ClonesAndCommandsWriteDisksOfTheirOwn) {
  start_with_disks();
  ok({"snapshot", "create", "web", "ready"});
  EXPECT_EQ(ok({"clone", "web:ready", "-n", "2"}), "web-1\nweb-2\n");
  for (const char* name : {"web-1", "web-2"}) {
    running_.emplace_back(name);
    guest(name, "echo " + std::string(name) + " >/a/name; sync; echo 3 >/proc/sys/vm/drop_caches");
  }
  for (const char* name : {"web-1", "web-2", "web"}) EXPECT_EQ(work(name), "");
  EXPECT_EQ(guest("web-1", "cat /a/name"), "web-1\n");
  EXPECT_EQ(guest("web-2", "cat /a/name"), "web-2\n");
  EXPECT_EQ(run_doppel({"run", "--from", "web:ready", "-c", "cat /a/name || echo none"}).output, "none\n");
  // A clone's snapshot stands by itself.
  ok({"snapshot", "create", "web-1", "own"});
  ok({"snapshot", "delete", "web", "ready"});
  EXPECT_EQ(run_doppel({"run", "--from", "web-1:own", "-c", "cat /a/name"}).output, "web-1\n");
}

TEST_F(SnapshotsWithDisks, ADiskThatGoesPastTheHostsCacheGoesOnPastIt) {
  const auto opened_past_cache = [this](const std::string& directory) {
    const auto machines = nlohmann::json::parse(ok({"ps", "--json"}));
    const std::string process = "/proc/" + std::to_string(machines.at(0).at("pid").get<pid_t>());
    unsigned number = 0;
    for (const auto& entry : std::filesystem::directory_iterator(process + "/fd")) {
      std::error_code gone;
      if (!std::filesystem::read_symlink(entry.path(), gone).string().starts_with(directory)) continue;
      std::ifstream info(process + "/fdinfo/" + entry.path().filename().string());
      std::string word;
      while (info >> word && word != "flags:") {
      }
      unsigned flags = 0;
      if (info >> std::oct >> flags && (flags & O_DIRECT) != 0) ++number;
    }
    return number;
  };
  start("web", {"--memory", "128M", "--disk", file_ + ",cache=none"});
  if (opened_past_cache(file_) == 0) GTEST_SKIP() << "this file system has no O_DIRECT";
  const std::string layers = directory_ / "XDG_STATE_HOME/doppel/snapshots/.disks";
  EXPECT_EQ(opened_past_cache(layers), 0U);
  ok({"snapshot", "create", "web", "one"});
  EXPECT_EQ(opened_past_cache(layers), 1U);
  guest("web",
        "mke2fs -q /dev/vda >/dev/null 2>&1; mkdir /a; mount /dev/vda /a; seq 1 30000 >/tmp/f; cp /tmp/f /a/f; "
        "sync; echo 1 >/proc/sys/vm/drop_caches; cmp /tmp/f /a/f");
  ok({"snapshot", "create", "web", "two"});
  EXPECT_EQ(opened_past_cache(layers), 2U) << "what lies below is read past it as well";
  guest("web", "cp /tmp/f /a/g; sync; echo 1 >/proc/sys/vm/drop_caches; cmp /tmp/f /a/f; cmp /tmp/f /a/g");
  ok({"snapshot", "restore", "web", "two"});
  EXPECT_GT(opened_past_cache(layers), 0U);
  guest("web", "echo 1 >/proc/sys/vm/drop_caches; cmp /tmp/f /a/f; [ ! -e /a/g ]");
  ok({"kill", "web"});
  check_images();
}

TEST_F(SnapshotsWithDisks, AnotherHostHasTheDisksFromTheArchive) {
  start_with_disks();
  ok({"snapshot", "create", "web", "ready"});
  ok({"snapshot", "export", "web", "ready", directory_ / "archive", "-q"});
  ok({"kill", "web"});
  ok({"snapshot", "delete", "web", "ready"});
  std::filesystem::remove(file_);
  std::filesystem::remove(raw_);
  EXPECT_EQ(ok({"snapshot", "import", directory_ / "archive"}), "web:ready\n");
  start("moved", {"--from", "web:ready"});
  EXPECT_EQ(work("moved"), "");
}

TEST_F(SnapshotsWithDisks, ADiskThatIsGoneOrAnotherIsRefused) {
  start_with_disks();
  ok({"snapshot", "create", "web", "ready"});
  ok({"kill", "web"});
  std::filesystem::rename(raw_, raw_ + ".away");
  RunResult result = run_doppel({"run", "--from", "web:ready", "-c", "true"});
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.errors, HasSubstr("web:ready stands on the disk"));
  EXPECT_NE(run_doppel({"snapshot", "restore", "web", "ready"}).status, 0);
  std::filesystem::rename(raw_ + ".away", raw_);
  std::ofstream(raw_, std::ios::in | std::ios::out) << "x";
  result = run_doppel({"run", "--from", "web:ready", "-c", "true"});
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.errors, HasSubstr("has been written by something else since"));
}

}  // namespace
}  // namespace doppel::test
