#include <gtest/gtest.h>
#include <seccomp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "base/temporary_directory.h"
#include "storage/host_file.h"
#include "storage/power_cut_file.h"
#include "storage/qcow2/create.h"
#include "storage/qcow2/image.h"

namespace doppel::storage {
namespace {

/// From here on the process is told that the disk is broken.
bool fail_syncs() {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  return filter != nullptr && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EIO), SCMP_SYS(fdatasync), 0) == 0 &&
         seccomp_load(filter) == 0;
}

TEST(HostFiles, ThatAreNotKeptAreNotSyncedBeforeTheyAre) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "file";
  std::ofstream(path) << "contents";
  EXPECT_EXIT(
      {
        const auto file = HostFile::open(path, {.kept = false});
        const bool right = file && fail_syncs() && (*file)->sync() == 0 && (*file)->keep() == EIO &&
                           (*file)->sync() == EIO && (*file)->keep() == 0;
        ::_exit(right ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
  EXPECT_EXIT(
      {
        const auto file = HostFile::open(path, {});
        ::_exit(file && fail_syncs() && (*file)->sync() == EIO ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

class UnkeptFile final : public test::PowerCutFile {
 public:
  int sync() override { return kept_ ? PowerCutFile::sync() : 0; }
  int keep() override {
    kept_ = true;
    return sync();
  }

 private:
  bool kept_ = false;
};

/// What a power cut leaves if it takes all that it can, by its first sector.
std::byte first_byte_after_power_cut(const UnkeptFile& file) {
  const auto none = [] { return 0U; };
  const auto survivor = std::make_shared<test::PowerCutFile>(file.after_power_cut(none));
  const auto image = qcow2::Qcow2Image::open(survivor, nullptr, {.read_only = true});
  std::array<std::byte, 512> bytes{};
  const iovec buffer = as_iovec(std::span<std::byte>(bytes));
  return image && (*image)->read(0, {&buffer, 1}) == 0 ? bytes[0] : std::byte{0};
}

class UnkeptImages : public testing::Test {
 protected:
  void SetUp() override {
    qcow2::CreateOptions options;
    options.size = 1 << 20;
    auto image = qcow2::create(file_, options);
    ASSERT_TRUE(image) << image.error().message;
    image_ = *std::move(image);
    write(std::byte{1});
    EXPECT_EQ(first_byte_after_power_cut(*file_), std::byte{0});
  }
  void write(std::byte value) {
    std::array<std::byte, 512> bytes{};
    bytes.fill(value);
    const iovec buffer = as_iovec(std::span<std::byte>(bytes));
    ASSERT_EQ(image_->write(0, {&buffer, 1}), 0);
    ASSERT_EQ(image_->flush(), 0);
  }

  std::shared_ptr<UnkeptFile> file_ = std::make_shared<UnkeptFile>();
  std::shared_ptr<Image> image_;
};

TEST_F(UnkeptImages, AreWholeOnTheDiskOnceTheyAreKept) {
  ASSERT_EQ(image_->keep(), 0);
  EXPECT_EQ(first_byte_after_power_cut(*file_), std::byte{1});
  write(std::byte{2});
  EXPECT_EQ(first_byte_after_power_cut(*file_), std::byte{2});
}

TEST_F(UnkeptImages, AreWholeOnTheDiskWhenTheyBecomeBackingImages) {
  ASSERT_TRUE(image_->freeze());
  EXPECT_EQ(first_byte_after_power_cut(*file_), std::byte{1});
}

}  // namespace
}  // namespace doppel::storage
