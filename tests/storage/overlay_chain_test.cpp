#include "storage/overlay_chain.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/temporary_directory.h"
#include "storage/open.h"
#include "storage/random_operations.h"
#include "storage/tools.h"

namespace doppel::storage {
namespace {

class OverlayChains : public testing::Test {
 protected:
  static constexpr std::uint64_t kSize = 8 << 20;

  void SetUp() override {
    test::must_run({"qemu-img", "create", "-q", "-f", "qcow2", path("base"), std::to_string(kSize)});
  }

  std::string path(const std::string& name) const { return directory_ / (name + ".qcow2"); }
  std::unique_ptr<Disk> open(const std::string& name) {
    DiskOptions options;
    options.format = "qcow2";
    auto disk = open_disk(path(name), options);
    if (!disk) throw std::runtime_error(disk.error().message);
    return std::move(*disk);
  }
  /// Random operations, and what the disk then holds.
  void use(Disk& disk, std::uint64_t seed) {
    EXPECT_EQ(test::RandomOperations(*disk.image(), contents_, seed, 100'000).run(60), "");
  }
  void expect_contents(const std::string& name, const std::vector<std::byte>& contents) {
    EXPECT_NO_THROW(test::must_run({"qemu-img", "check", path(name)}));
    EXPECT_TRUE(test::contents_by_qemu(path(name), "qcow2", directory_ / "scratch") == contents) << name;
  }

  test::TemporaryDirectory directory_;
  std::vector<std::byte> contents_ = std::vector<std::byte>(kSize);
};

TEST_F(OverlayChains, ASnapshotKeepsWhatWas) {
  std::vector<std::vector<std::byte>> then;
  {
    const auto disk = open("base");
    OverlayChain chain(*disk);
    for (const char* name : {"one", "two", "three"}) {
      use(*disk, then.size() + 1);
      then.push_back(contents_);
      ASSERT_TRUE(chain.snapshot(path(name)));
      // Others may stand on it at once.
      EXPECT_EQ(test::run_tool({"qemu-img", "check", then.size() == 1 ? path("base") : path("one")}).status, 0);
    }
    use(*disk, 9);
    EXPECT_EQ(chain.images().size(), 4U);
    EXPECT_FALSE(chain.snapshot(path("two"))) << "an existing file must not be replaced";
  }
  expect_contents("base", then[0]);
  expect_contents("one", then[1]);
  expect_contents("two", then[2]);
  expect_contents("three", contents_);
}

TEST_F(OverlayChains, AFailedSnapshotChangesNothing) {
  const auto disk = open("base");
  OverlayChain chain(*disk);
  use(*disk, 1);
  EXPECT_FALSE(chain.snapshot(directory_ / "missing/directory/x"));
  EXPECT_EQ(chain.images().size(), 1U);
  use(*disk, 2);
}

TEST_F(OverlayChains, MergesWhileTheGuestGoesOn) {
  {
    const auto disk = open("base");
    OverlayChain chain(*disk);
    for (const char* name : {"one", "two", "three"}) {
      use(*disk, static_cast<unsigned char>(name[1]));
      ASSERT_TRUE(chain.snapshot(path(name)));
    }
    EXPECT_FALSE(chain.merge(0));
    EXPECT_FALSE(chain.merge(3));
    std::atomic<bool> merged = false;
    std::thread guest([&] {
      for (std::uint64_t seed = 100; !merged; ++seed) use(*disk, seed);
    });
    EXPECT_TRUE(chain.merge(2));  // one into base
    EXPECT_TRUE(chain.merge(1));  // two into base
    merged = true;
    guest.join();
    EXPECT_EQ(chain.images().size(), 2U);
  }
  std::filesystem::remove(path("one"));
  std::filesystem::remove(path("two"));
  expect_contents("three", contents_);
  expect_contents("base", test::contents_by_qemu(path("base"), "qcow2", directory_ / "scratch2"));
}

}  // namespace
}  // namespace doppel::storage
