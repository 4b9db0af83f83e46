// Cuts the power between any two writes, losing any of the sectors that were not synced: the image stays consistent,
// and what was flushed is there.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <random>

#include "base/temporary_directory.h"
#include "storage/power_cut_file.h"
#include "storage/qcow2/check.h"
#include "storage/qcow2/create.h"
#include "storage/raw_image.h"
#include "storage/tools.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kSector = 512;

struct Case {
  const char* name;
  CreateOptions options;
  bool backing;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

/// A disk whose sectors carry the number of the operation that wrote them, and what each may hold after a power cut.
class Model {
 public:
  explicit Model(std::uint64_t sectors) : durable_(sectors, 0) {}

  void set_base(std::uint64_t sector, std::uint64_t stamp) { durable_[sector] = stamp; }
  void written(std::uint64_t sector, std::uint64_t stamp) { maybe_[sector].push_back(stamp); }
  void flushed() {
    for (const auto& [sector, stamps] : maybe_) durable_[sector] = stamps.back();
    maybe_.clear();
  }
  bool allows(std::uint64_t sector, std::uint64_t stamp) const {
    if (durable_[sector] == stamp) return true;
    const auto found = maybe_.find(sector);
    return found != maybe_.end() && std::ranges::count(found->second, stamp) != 0;
  }
  /// The disk is now known to hold this.
  void settle(std::uint64_t sector, std::uint64_t stamp) {
    durable_[sector] = stamp;
    maybe_.erase(sector);
  }
  std::uint64_t sectors() const { return durable_.size(); }

 private:
  std::vector<std::uint64_t> durable_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> maybe_;
};

std::vector<std::byte> stamped(std::uint64_t sectors, std::uint64_t stamp) {
  std::vector<std::byte> bytes(sectors * kSector);
  for (std::uint64_t i = 0; i < bytes.size(); i += 8) std::memcpy(&bytes[i], &stamp, 8);
  return bytes;
}

class PowerCut : public testing::TestWithParam<Case> {
 protected:
  static constexpr std::uint64_t kSectors = 8192;

  std::shared_ptr<Image> make_backing(Model& model) {
    if (!GetParam().backing) return nullptr;
    std::vector<std::byte> bytes;
    for (std::uint64_t sector = 0; sector < kSectors; ++sector) {
      const std::vector<std::byte> one = stamped(1, 1'000'000 + sector);
      bytes.insert(bytes.end(), one.begin(), one.end());
      model.set_base(sector, 1'000'000 + sector);
    }
    return std::make_shared<RawImage>(std::make_shared<test::PowerCutFile>(std::move(bytes)), true, false);
  }

  /// One random operation, noted in the model before it is tried.
  void operate(Image& image, Model& model) {
    const std::uint64_t sector = random_() % kSectors;
    const std::uint64_t count = std::min(1 + random_() % (random_() % 4 == 0 ? 600 : 24), kSectors - sector);
    const std::uint64_t stamp = ++stamp_;
    const auto note = [&](std::uint64_t value) {
      for (std::uint64_t i = 0; i < count; ++i) model.written(sector + i, value);
    };
    switch (random_() % 10) {
      case 0:
        note(0);
        ASSERT_EQ(image.write_zeroes(sector * kSector, count * kSector, random_() % 2 == 0), 0);
        break;
      case 1:
      case 2:
        ASSERT_EQ(image.flush(), 0);
        model.flushed();
        break;
      default: {
        note(stamp);
        const std::vector<std::byte> bytes = stamped(count, stamp);
        const iovec buffer = as_iovec(std::span(bytes));
        ASSERT_EQ(image.write(sector * kSector, {&buffer, 1}), 0);
      }
    }
  }

  void expect_contents(Image& image, Model& model) {
    std::vector<std::byte> bytes(kSectors * kSector);
    const iovec buffer = as_iovec(std::span(bytes));
    ASSERT_EQ(image.read(0, {&buffer, 1}), 0);
    for (std::uint64_t sector = 0; sector < kSectors; ++sector) {
      std::uint64_t stamp = 0;
      std::memcpy(&stamp, &bytes[sector * kSector], 8);
      ASSERT_TRUE(model.allows(sector, stamp)) << "sector " << sector << " holds " << stamp;
      model.settle(sector, stamp);
    }
  }

  void judge_by_qemu(const std::vector<std::byte>& disk) {
    const std::string path = directory_ / "disk.qcow2";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(disk.data()), static_cast<long>(disk.size()));
    const test::Ran ran = test::run_tool({"qemu-img", "check", "-f", "qcow2", "-U", path});
    EXPECT_TRUE(ran.status == 0 || ran.status == 3) << ran.output;
  }

  std::mt19937_64 random_;
  std::uint64_t stamp_ = 0;
  test::TemporaryDirectory directory_;
};

TEST_P(PowerCut, LosesNothingFlushed) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    random_.seed(seed);
    Model model(kSectors);
    CreateOptions options = GetParam().options;
    options.size = kSectors * kSector;
    const std::shared_ptr<Image> backing = make_backing(model);
    auto file = std::make_shared<test::PowerCutFile>();
    {
      auto created = create(file, options, backing);
      ASSERT_TRUE(created) << created.error().message;
    }
    // Small caches, so that tables are also written for want of room.
    const Qcow2Image::Options open{.read_only = false, .l2_cache_bytes = 16384, .refcount_cache_bytes = 16384};
    for (int life = 0; life < 6; ++life) {
      SCOPED_TRACE(life);
      auto opened = Qcow2Image::open(file, backing, open);
      ASSERT_TRUE(opened) << opened.error().message;
      int changes = static_cast<int>(random_() % 150);
      std::vector<std::byte> disk;
      std::optional<Model> at_cut;
      file->before_change = [&] {
        if (--changes >= 0 || !disk.empty()) return;
        disk = file->after_power_cut(random_);
        at_cut = model;  // an operation that goes on from here never completed
      };
      while (disk.empty()) {
        operate(**opened, model);
        if (HasFatalFailure()) return;
      }
      file->before_change = nullptr;
      opened->reset();
      model = *at_cut;

      file = std::make_shared<test::PowerCutFile>(disk);
      const auto expect_consistent = [&] {
        auto examined = Qcow2Image::open(file, backing, {.read_only = true, .for_check = true});
        ASSERT_TRUE(examined) << examined.error().message;
        auto checked = check_image(**examined, Repair::None);
        ASSERT_TRUE(checked) << checked.error().message;
        ASSERT_EQ(checked->corruptions, 0U) << checked->messages.front();
        ASSERT_EQ(checked->check_errors, 0U);
      };
      auto header = parse_header(*file);
      ASSERT_TRUE(header) << header.error().message;
      if ((header->incompatible_features & kDirty) == 0) {
        expect_consistent();
        if (seed == 1 || life == 0) judge_by_qemu(disk);
      }
      {
        auto reopened = Qcow2Image::open(file, backing, open);
        ASSERT_TRUE(reopened) << reopened.error().message;
        expect_contents(**reopened, model);
        if (HasFatalFailure()) return;
      }
      expect_consistent();
      if (seed == 1 || life == 0) judge_by_qemu(file->contents());
    }
  }
}

CreateOptions with(void (*change)(CreateOptions&)) {
  CreateOptions options;
  change(options);
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, PowerCut,
    testing::Values(
        Case{"plain", {}, false}, Case{"overlay", {}, true},
        Case{"v2", with([](CreateOptions& o) { o.version = 2; }), true},
        Case{"c512", with([](CreateOptions& o) { o.cluster_size = 512; }), true},
        Case{"c4k_r64", with([](CreateOptions& o) { o.cluster_size = 4096, o.refcount_bits = 64; }), true},
        Case{"extended", with([](CreateOptions& o) { o.cluster_size = 32768, o.extended_l2 = true; }), true},
        Case{"lazy", with([](CreateOptions& o) { o.lazy_refcounts = true; }), true},
        Case{"lazy_c512", with([](CreateOptions& o) { o.lazy_refcounts = true, o.cluster_size = 512; }), true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel::storage::qcow2
