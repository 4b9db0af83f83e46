#include "snapshot/disk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "snapshot/archive.h"
#include "snapshot/disk_fixture.h"
#include "storage/operations/new_image.h"

namespace doppel::snapshot {
namespace {

namespace fs = std::filesystem;
using test::DiskOfMachine;
using testing::HasSubstr;

class DiskStoreTest : public test::StoreFixture {
 protected:
  DiskStoreTest() {
    fs::create_directory(files_);
    storage::NewImageOptions options;
    options.format = storage::ImageFormat::Qcow2;
    options.qcow2.size = test::kDiskBytes;
    auto made = storage::NewImage::create(file_, options);
    EXPECT_TRUE(made && made->finish());
    std::ofstream(raw_) << std::string(test::kDiskBytes, '\0');
  }

  /// A snapshot of the machine as it is now.
  Manifest save(DiskOfMachine& machine, const std::string& tag) {
    Result<Draft> draft = snapshots_.begin("web", tag, std::nullopt);
    EXPECT_TRUE(draft) << draft.error().message;
    Manifest manifest = fill(*draft, tag, {1}, 'a', nullptr);
    const Result<Manifest::Disk> disk = machine.freeze(draft->directory());
    EXPECT_TRUE(disk) << disk.error().message;
    manifest.disks = {*disk};
    const std::string text = format_manifest(manifest);
    EXPECT_EQ(::ftruncate(draft->manifest.get(), 0), 0);
    EXPECT_EQ(::pwrite(draft->manifest.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    EXPECT_TRUE(snapshots_.commit(*draft));
    return manifest;
  }
  /// Runs a machine on the user's file that makes each of these writes (block, value) and a snapshot after it: s1, s2 …
  void write_and_save(const std::vector<std::pair<std::uint64_t, unsigned char>>& writes) {
    DiskOfMachine machine(snapshots_, file_);
    for (std::size_t i = 0; i < writes.size(); ++i) {
      machine.write(writes[i].first, writes[i].second);
      save(machine, "s" + std::to_string(i + 1));
    }
  }
  Manifest manifest(const std::string& tag) {
    const Result<Manifest> found = snapshots_.find({"web", tag});
    EXPECT_TRUE(found) << found.error().message;
    return *found;
  }
  /// A block of the disk as a new machine finds it.
  int in_snapshot(const std::string& tag, std::uint64_t block) {
    DiskOfMachine machine(snapshots_, manifest(tag), false);
    EXPECT_EQ(machine.problem(), "");
    return machine.read(block);
  }
  std::size_t layers() {
    std::set<std::uint64_t> inodes;
    for (const auto& entry : fs::recursive_directory_iterator(snapshots_.disks().root() + "/..")) {
      struct stat status {};
      if (is_layer_name(entry.path().filename().string()) && ::stat(entry.path().c_str(), &status) == 0) {
        inodes.insert(status.st_ino);
      }
    }
    return inodes.size();
  }

  const Store snapshots_{directory / "snapshots"};
  const std::string files_ = directory / "files", file_ = directory / "files/disk.qcow2",
                    raw_ = directory / "files/disk.raw";
};

TEST_F(DiskStoreTest, AFileOfTheUsersIsFrozenAndGoesOnInALayer) {
  for (const std::string& file : {file_, raw_}) {
    SCOPED_TRACE(file);
    const std::string tag = file == file_ ? "s1" : "r1";
    {
      DiskOfMachine machine(snapshots_, file);
      ASSERT_EQ(machine.problem(), "");
      machine.write(0, 1);
      save(machine, tag);
      machine.write(0, 2);
      EXPECT_EQ(machine.read(0), 2);
    }
    EXPECT_EQ(in_snapshot(tag, 0), 1);
    {
      DiskOfMachine again(snapshots_, file);
      EXPECT_EQ(again.read(0), 2) << "the file's name leads to what was written last";
      EXPECT_NE(again.path(), file);
    }
    EXPECT_EQ(DiskOfMachine(snapshots_, file, true).read(0), 2) << "a machine that keeps nothing, too";
  }
}

TEST_F(DiskStoreTest, MachinesFromOneSnapshotDoNotSeeEachOther) {
  write_and_save({{0, 1}});
  DiskOfMachine a(snapshots_, manifest("s1"), false);
  DiskOfMachine b(snapshots_, manifest("s1"), false);
  a.write(0, 7);
  b.write(1, 8);
  EXPECT_EQ(a.read(1), 0);
  EXPECT_EQ(b.read(0), 1);
  save(a, "a");
  a.write(0, 9);
  EXPECT_EQ(in_snapshot("a", 0), 7);
  ASSERT_TRUE(snapshots_.remove("web", "s1"));
  EXPECT_EQ(b.read(0), 1);
  EXPECT_EQ(in_snapshot("a", 0), 7) << "the snapshot of a clone is whole by itself";
}

TEST_F(DiskStoreTest, ARestoreTakesTheUsersFileBack) {
  write_and_save({{0, 1}, {0, 2}});
  DiskOfMachine(snapshots_, file_).write(0, 3);
  {
    DiskOfMachine machine(snapshots_, manifest("s1"), true);
    EXPECT_EQ(machine.read(0), 1);
    machine.write(1, 4);
  }
  DiskOfMachine machine(snapshots_, file_);
  EXPECT_EQ(machine.read(0), 1);
  EXPECT_EQ(machine.read(1), 4);
  EXPECT_EQ(in_snapshot("s2", 0), 2) << "what came after is there, for it has a name";
}

TEST_F(DiskStoreTest, ASnapshotThatFailedLeavesTheDiskAsItIs) {
  DiskOfMachine machine(snapshots_, file_);
  machine.write(0, 1);
  ASSERT_TRUE(snapshots_.disks().make_next(machine.place())) << "and nothing comes of it";
  machine.write(0, 2);
  machine.flush();
  {
    // As a machine would find it after a crash.
    const auto image = storage::open_image(snapshots_.disks().current_of(file_), {.format = "qcow2", .lock = false});
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(test::get_block(**image, 0), 2);
  }
  save(machine, "s1");
  machine.write(0, 3);
  EXPECT_EQ(layers(), 1U) << "the layer of the first attempt is gone";
  EXPECT_EQ(in_snapshot("s1", 0), 2);
}

TEST_F(DiskStoreTest, DeletingMergesWhatNobodyNeedsApart) {
  {
    DiskOfMachine machine(snapshots_, file_);
    for (unsigned char i = 1; i <= 5; ++i) {
      machine.write(0, i);
      machine.write(i, i);
      save(machine, "s" + std::to_string(i));
    }
    machine.write(0, 6);
    EXPECT_EQ(layers(), 5U);
    ASSERT_TRUE(snapshots_.remove("web", "s3"));
    EXPECT_EQ(layers(), 4U) << "under a running machine";
    EXPECT_EQ(machine.read(0), 6);
    EXPECT_EQ(machine.read(3), 3);
  }
  for (unsigned char i : {1, 2, 4, 5}) {
    EXPECT_EQ(in_snapshot("s" + std::to_string(i), 0), i);
    for (unsigned char block = 1; block <= 5; ++block) {
      EXPECT_EQ(in_snapshot("s" + std::to_string(i), block), block <= i ? block : 0);
    }
  }
  for (const char* tag : {"s2", "s1", "s5", "s4"}) ASSERT_TRUE(snapshots_.remove("web", tag));
  EXPECT_EQ(layers(), 0U);
  DiskOfMachine machine(snapshots_, file_);
  EXPECT_EQ(machine.path(), fs::canonical(file_)) << "the user's file is the disk again";
  EXPECT_EQ(machine.read(0), 6);
  EXPECT_EQ(machine.read(4), 4);
}

TEST_F(DiskStoreTest, WhatIsNotThereOrHasChangedIsRefused) {
  write_and_save({{0, 1}});
  const Manifest s1 = manifest("s1");
  ASSERT_TRUE(snapshots_.open(s1));
  fs::rename(file_, file_ + ".away");
  auto opened = snapshots_.open(s1);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("web:s1 stands on the disk " + fs::canonical(files_).string()));
  fs::rename(file_ + ".away", file_);
  ASSERT_TRUE(snapshots_.open(s1));
  fs::last_write_time(file_, fs::last_write_time(file_) + std::chrono::seconds(1));
  opened = snapshots_.open(s1);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("written by something else"));
  EXPECT_THAT(DiskOfMachine(snapshots_, file_).problem(), HasSubstr("written by something else"));
}

TEST_F(DiskStoreTest, AMachineThatKeepsNothingLeavesNothing) {
  {
    DiskOfMachine machine(snapshots_, file_, true);
    machine.write(0, 1);
    EXPECT_EQ(machine.read(0), 1);
    save(machine, "s1");
    machine.write(0, 2);
    EXPECT_EQ(layers(), 2U);
  }
  EXPECT_EQ(layers(), 1U);
  EXPECT_EQ(in_snapshot("s1", 0), 1);
  EXPECT_EQ(DiskOfMachine(snapshots_, file_).read(0), 0);
}

TEST_F(DiskStoreTest, AnArchiveHasTheWholeDisk) {
  write_and_save({{0, 1}, {200, 2}});
  const std::string archive = directory / "archive";
  ASSERT_TRUE(export_snapshot(snapshots_, manifest("s2"), archive));
  for (const char* tag : {"s1", "s2"}) ASSERT_TRUE(snapshots_.remove("web", tag));
  fs::remove(file_);
  const auto imported = import_snapshot(snapshots_, archive, std::nullopt);
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(in_snapshot("s2", 0), 1);
  EXPECT_EQ(in_snapshot("s2", 200), 2);
  EXPECT_EQ(in_snapshot("s2", 100), 0);
  // Cut anywhere, it is an error.
  const auto size = fs::file_size(archive);
  for (std::uintmax_t cut = size / 2; cut < size; cut += size / 40 + 1) {
    fs::copy_file(archive, archive + ".cut", fs::copy_options::overwrite_existing);
    fs::resize_file(archive + ".cut", cut);
    EXPECT_FALSE(import_snapshot(snapshots_, archive + ".cut", Reference{"cut", "x"})) << cut;
  }
}

}  // namespace
}  // namespace doppel::snapshot
