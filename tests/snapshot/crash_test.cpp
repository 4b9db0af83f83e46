// Makers of snapshots that are killed, or run out of space, at any instant: every snapshot that is listed is whole, and
// so is the disk that the machine would go on with. DOPPEL_CRASH_ROUNDS says how often, if not ten times.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "snapshot/disk_fixture.h"
#include "snapshot/machine_manifest.h"
#include "storage/operations/new_image.h"
#include "storage/qcow2/check.h"

namespace doppel::snapshot {
namespace {

namespace fs = std::filesystem;
using test::DiskOfMachine;

constexpr unsigned kBlocks = 200;

/// Which block the nth step writes; block 0 counts the steps.
unsigned block_of(unsigned step) {
  return 1 + step * 7 % kBlocks;
}
unsigned char value_of(unsigned step) {
  return static_cast<unsigned char>(step % 251 + 1);
}

class CrashTest : public test::StoreFixture {
 protected:
  CrashTest() {
    storage::NewImageOptions options;
    options.format = storage::ImageFormat::Qcow2;
    options.qcow2.size = test::kDiskBytes;
    auto made = storage::NewImage::create(file_, options);
    EXPECT_TRUE(made && made->finish());
  }

  static unsigned rounds() {
    const char* const text = std::getenv("DOPPEL_CRASH_ROUNDS");
    return text == nullptr ? 10 : static_cast<unsigned>(std::atoi(text));
  }

  /// The machine and its keeper at once, until killed: writes, makes snapshots, deletes others.
  [[noreturn]] void work(unsigned seed) {
    std::minstd_rand random(seed);
    DiskOfMachine machine(snapshots_, file_);
    if (!machine.problem().empty()) ::_exit(2);
    const auto write = [&](unsigned step) {
      if (!machine.try_write(block_of(step), value_of(step))) ::_exit(0);
    };
    unsigned step = last_;
    // What was written since the last snapshot may be lost or not.
    const std::map<unsigned, unsigned char> expected = contents_after(step);
    for (unsigned block = 1; block <= kBlocks; ++block) {
      if (!machine.try_write(block, expected.contains(block) ? expected.at(block) : 0)) ::_exit(0);
    }
    for (;;) {
      write(++step);
      if (step % 3 == 0) {
        Result<Draft> draft = snapshots_.begin("web", "t" + std::to_string(step), std::nullopt);
        if (!draft) continue;
        Manifest manifest = fill_quietly(*draft, step);
        const Result<Manifest::Disk> disk = machine.freeze(draft->directory());
        if (!disk) ::_exit(0);
        manifest.disks = {*disk};
        const std::string text = format_manifest(manifest);
        if (!write_all(draft->manifest.get(), std::as_bytes(std::span{text}))) continue;
        static_cast<void>(snapshots_.commit(*draft).ok());
      }
      if (step % 2 == 0) {
        const auto all = snapshots_.list("web");
        if (all && all->size() > 2 + random() % 5) {
          static_cast<void>(snapshots_.remove("web", (*all)[random() % all->size()].tag).ok());
        }
      }
    }
  }

  static Manifest fill_quietly(Draft& draft, unsigned step) {
    Manifest manifest;
    manifest.machine = "web";
    manifest.tag = "t" + std::to_string(step);
    manifest.id = "id";
    manifest.created = step;
    manifest.memory_bytes = kMemory;
    LayerWriter layer(draft.ram.get(), draft.sums.get(), kMemory, true);
    const std::vector<std::byte> page(memory::kPageSize, static_cast<std::byte>(value_of(step)));
    const Result<void> begun = layer.begin();
    const Result<void> paged = begun ? layer.page(3, page) : begun;
    const Result<Manifest::File> sums = layer.finish();
    const std::string words = "state";
    const auto bytes = std::as_bytes(std::span{words});
    const bool put = write_all(draft.clock.get(), bytes) && write_all(draft.components.get(), bytes);
    if (!paged || !sums || !put) ::_exit(0);
    manifest.layers = {*sums};
    manifest.clock = manifest.components = {bytes.size(), crc32c(bytes)};
    return manifest;
  }

  static std::map<unsigned, unsigned char> contents_after(unsigned step) {
    std::map<unsigned, unsigned char> contents;
    for (unsigned i = 1; i <= step; ++i) contents[block_of(i)] = value_of(i);
    return contents;
  }
  static void expect_steps(storage::Image& image, unsigned step) {
    const std::map<unsigned, unsigned char> expected = contents_after(step);
    for (unsigned block = 1; block <= kBlocks; ++block) {
      ASSERT_EQ(test::get_block(image, block), expected.contains(block) ? expected.at(block) : 0) << "block " << block;
    }
  }
  /// The disk has all that the last snapshot has, or what was written after it.
  void expect_no_less(DiskOfMachine& machine) const {
    constexpr unsigned kMoreAtMost = 2000;
    std::map<unsigned, std::set<int>> allowed;
    for (unsigned i = 1; i <= last_ + kMoreAtMost; ++i) {
      if (i <= last_) allowed[block_of(i)].clear();
      allowed[block_of(i)].insert(value_of(i));
    }
    for (unsigned block = 1; block <= kBlocks; ++block) {
      if (last_ < kBlocks) allowed[block].insert(0);
      ASSERT_TRUE(allowed[block].contains(machine.read(block))) << "block " << block;
    }
  }

  /// All that is left behind is good.
  void expect_whole() {
    const auto all = snapshots_.list("web");
    ASSERT_TRUE(all);
    for (const Manifest& manifest : *all) {
      SCOPED_TRACE(manifest.tag);
      const Result<void> verified = snapshots_.verify(manifest);
      ASSERT_TRUE(verified) << verified.error().message;
      const std::string directory = snapshots_.directory("web", manifest.tag);
      const auto image = storage::open_image(disks_of(manifest, directory)[0].path, {});
      ASSERT_TRUE(image) << image.error().message;
      expect_steps(**image, static_cast<unsigned>(std::atoi(manifest.tag.c_str() + 1)));
      for (const auto& entry : fs::directory_iterator(directory)) {
        if (is_layer_name(entry.path().filename().string())) expect_clean(entry.path().string());
      }
    }
    last_ = all->empty() ? last_ : std::max(last_, static_cast<unsigned>(all->back().created));
    DiskOfMachine machine(snapshots_, file_);
    ASSERT_EQ(machine.problem(), "");
    expect_no_less(machine);
  }
  static void expect_clean(const std::string& path) {
    const auto image =
        storage::open_image(path, {.format = "qcow2", .lock = false, .with_backing = false, .for_check = true});
    ASSERT_TRUE(image) << image.error().message;
    auto& qcow2 = dynamic_cast<storage::qcow2::Qcow2Image&>(**image);
    const auto found = storage::qcow2::check_image(qcow2, storage::qcow2::Repair::None);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->corruptions, 0U) << path;
  }

  const Store snapshots_{directory / "snapshots"};
  const std::string file_ = directory / "disk.qcow2";
  unsigned last_ = 0;
};

TEST_F(CrashTest, KilledAtAnyInstantMakersLeaveWhatWasThere) {
  std::minstd_rand random(1);
  for (unsigned round = 0; round < rounds(); ++round) {
    SCOPED_TRACE(round);
    const pid_t worker = ::fork();
    if (worker == 0) work(round + 1);
    ::usleep(static_cast<useconds_t>(20'000 + random() % 300'000));
    ::kill(worker, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(worker, &status, 0), worker);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the worker could not go on: " << WEXITSTATUS(status);
    expect_whole();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(last_, 0U) << "nobody got anywhere";
}

TEST_F(CrashTest, MakersWithoutSpaceLeaveWhatWasThere) {
  std::minstd_rand random(2);
  for (unsigned round = 0; round < rounds(); ++round) {
    SCOPED_TRACE(round);
    const pid_t worker = ::fork();
    if (worker == 0) {
      // As a full disk, but for one's own files only. Everything but the last of it is refused.
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{round % 2 == 0 ? 2'000 + random() % 1'500'000 : RLIM_INFINITY, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      work(round + 1);
    }
    ::usleep(static_cast<useconds_t>(50'000 + random() % 200'000));
    ::kill(worker, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(worker, &status, 0), worker);
    expect_whole();
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace doppel::snapshot
