#include "cli/image_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/temporary_directory.h"
#include "cli/app.h"
#include "cli/run_image.h"
#include "storage/open.h"
#include "storage/operations/new_image.h"

namespace doppel::cli {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kSize = 64U << 20;

int doppel(std::vector<const char*> words) {
  words.insert(words.begin(), "doppel");
  return run_program(static_cast<int>(words.size()), words.data());
}

/// A variable of the environment, as it was before at the end.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class Store : public testing::Test {
 protected:
  Result<void> publish(const std::string& name, const std::string& description) {
    Result<ImageStage> stage = store.stage();
    if (!stage) return stage.error();
    for (const char* const file : {"/vmlinuz", "/initrd"}) std::ofstream(stage->directory() + file) << description;
    storage::NewImageOptions made;
    made.format = storage::ImageFormat::Qcow2;
    made.qcow2.size = kSize;
    auto disk = storage::NewImage::create(stage->directory() + "/disk.qcow2", made);
    if (!disk) return disk.error();
    if (auto finished = disk->finish(); !finished) return finished;
    return store.publish(
        *std::move(stage),
        {.name = name, .description = description, .command_line = "root=/dev/vda", .size = kSize, .created = 1});
  }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  RunOptions options(const std::string& kernel) {
    RunOptions options;
    options.kernel = kernel;
    return options;
  }

  const test::TemporaryDirectory directory;
  const Variable data{"XDG_DATA_HOME", directory.path()};
  const std::string path = directory.path() + "/doppel/images";
  const ImageStore store{path};
};

TEST_F(Store, FindsWhatWasPublished) {
  EXPECT_TRUE(store.list()->empty());
  ASSERT_TRUE(publish("web", "Debian 12"));
  ASSERT_TRUE(publish("db", "Debian 13"));
  const auto image = store.find("web");
  ASSERT_TRUE(image && *image);
  EXPECT_EQ((*image)->description, "Debian 12");
  EXPECT_EQ((*image)->command_line, "root=/dev/vda");
  EXPECT_EQ((*image)->size, kSize);
  EXPECT_EQ((*image)->created, 1);
  EXPECT_EQ(store.list()->size(), 2U);
  EXPECT_EQ(store.list()->front().name, "db");
  EXPECT_FALSE(*store.find("other"));
  EXPECT_FALSE(*store.find("../images/web"));
  EXPECT_THAT(entries(), ElementsAre("db", "web"));
}

TEST_F(Store, ReplacesAnImageAsAWhole) {
  ASSERT_TRUE(publish("web", "old"));
  ASSERT_TRUE(publish("web", "new"));
  EXPECT_EQ((*store.find("web"))->description, "new");
  EXPECT_THAT(entries(), ElementsAre("web"));
}

TEST_F(Store, AStageThatNobodyFinishesLeavesNothing) {
  {
    const auto stage = store.stage();
    ASSERT_TRUE(stage);
    std::ofstream(stage->directory() + "/root.tar") << "half";
    // Others that are being made are left alone, those of the dead are not.
    fs::create_directories(path + "/.building-dead/root");
    const auto other = store.stage();
    EXPECT_TRUE(fs::exists(stage->directory()));
    EXPECT_FALSE(fs::exists(path + "/.building-dead"));
  }
  EXPECT_TRUE(entries().empty());
  EXPECT_TRUE(store.list()->empty());
}

TEST_F(Store, ABrokenDescriptionIsAnErrorThatNamesTheWayOut) {
  ASSERT_TRUE(publish("web", "Debian"));
  for (const char* const text : {"", "[1]", "{\"version\": 2}", "{\"version\": 1, \"description\": 7}"}) {
    std::ofstream(path + "/web/image.json") << text;
    const auto image = store.find("web");
    ASSERT_FALSE(image) << text;
    EXPECT_THAT(image.error().message, HasSubstr("doppel image remove web"));
  }
  EXPECT_EQ(doppel({"image", "remove", "--force", "web"}), 0);
  EXPECT_TRUE(entries().empty());
}

TEST_F(Store, AKernelOrAPathIsNoImage) {
  EXPECT_FALSE(*resolve_image(options("")));
  EXPECT_FALSE(*resolve_image(options("./web")));
  const fs::path before = fs::current_path();
  fs::create_directories(path);
  fs::current_path(path);
  std::ofstream("bzImage") << "a kernel";
  EXPECT_FALSE(*resolve_image(options("bzImage")));
  fs::current_path(before);
  EXPECT_THAT(resolve_image(options("bzimage")).error().message, HasSubstr("neither an image nor a file bzimage"));
  EXPECT_THAT(resolve_image(options("debian")).error().message, HasSubstr("doppel image build debian"));
}

TEST_F(Store, AnImageRunsCopyOnWriteWithAUserNetwork) {
  ASSERT_TRUE(publish("web", "Debian"));
  RunOptions wanted = options("web");
  wanted.append = "single";
  wanted.disks = {"data.raw"};
  wanted.command = "true";
  const auto run = resolve_image(wanted);
  ASSERT_TRUE(run && *run);
  const RunOptions& machine = (**run).options;
  EXPECT_FALSE((**run).keeps);
  EXPECT_FALSE(machine.command);
  EXPECT_EQ(machine.kernel, path + "/web/vmlinuz");
  EXPECT_THAT(machine.initrds, ElementsAre(path + "/web/initrd"));
  EXPECT_EQ(machine.append, "root=/dev/vda single");
  EXPECT_THAT(machine.nets, ElementsAre("user"));
  EXPECT_THAT(machine.disks, ElementsAre(path + "/web/disk.qcow2,snapshot,format=qcow2,serial=root", "data.raw"));
  wanted.nets = {"none"};
  EXPECT_THAT((**resolve_image(wanted)).options.nets, ElementsAre("none"));
}

TEST_F(Store, AMachineWithANameKeepsItsDisk) {
  ASSERT_TRUE(publish("web", "Debian"));
  RunOptions wanted = options("web");
  wanted.name = "one";
  const auto run = resolve_image(wanted);
  ASSERT_TRUE(run && *run) << run.error().message;
  EXPECT_TRUE((**run).keeps);
  const std::string disk = path + "/web/machines/one.qcow2";
  EXPECT_EQ((**run).options.append, "root=/dev/vda systemd.hostname=one");
  EXPECT_THAT((**run).options.disks, ElementsAre(disk + ",format=qcow2,serial=root"));
  {
    const auto overlay = storage::open_image(disk, {.read_only = false});
    ASSERT_TRUE(overlay) << overlay.error().message;
    EXPECT_EQ((*overlay)->size(), kSize);
    EXPECT_EQ((*overlay)->backing()->name(), path + "/web/machines/../disk.qcow2");
  }
  struct stat before {
  }, after{};
  ASSERT_EQ(::stat(disk.c_str(), &before), 0);
  EXPECT_TRUE(resolve_image(wanted));
  ASSERT_EQ(::stat(disk.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);

  wanted.temporary = true;
  EXPECT_FALSE((**resolve_image(wanted)).keeps);
  EXPECT_THAT((*store.find("web"))->machine_names(), ElementsAre("one"));

  EXPECT_EQ(doppel({"image", "build", "debian", "--name", "web"}), 1) << "replaced without --force";
  EXPECT_EQ(doppel({"image", "build", "debian", "--name", "web", "--force"}), 1) << "replaced under a machine's disk";
  EXPECT_EQ(doppel({"image", "remove", "web"}), 1) << "removed under a machine's disk";
  EXPECT_EQ(doppel({"image", "remove", "web/two"}), 1);
  EXPECT_EQ(doppel({"image", "remove", "web/one"}), 0);
  EXPECT_EQ(doppel({"image", "remove", "web"}), 0);
  EXPECT_TRUE(entries().empty());
}

TEST_F(Store, ABuildSaysWhichProgramsAreMissing) {
  const Variable nowhere("PATH", directory.path());
  if (fs::exists("/usr/sbin/mmdebstrap") || fs::exists("/sbin/mmdebstrap")) GTEST_SKIP() << "mmdebstrap is in sbin";
  testing::internal::CaptureStderr();
  EXPECT_EQ(doppel({"image", "build", "debian"}), 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("apt install mmdebstrap"));
}

}  // namespace
}  // namespace doppel::cli
