// Random lives of an image, ours and QEMU's hands in turn: what both must find in it afterwards.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/temporary_directory.h"
#include "storage/open.h"
#include "storage/operations/merge.h"
#include "storage/operations/new_image.h"
#include "storage/qcow2/check.h"
#include "storage/random_operations.h"
#include "storage/tools.h"

namespace doppel::storage::qcow2 {
namespace {

using test::must_run;

/// A longer run: DOPPEL_IMAGE_SEQUENCES=1000 build/dev/tests/test_storage --gtest_filter='ImageSequences.*'
std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr const char* kOptions[] = {"compat=0.10",
                                    "compat=1.1",
                                    "lazy_refcounts=on",
                                    "cluster_size=512",
                                    "cluster_size=512,refcount_bits=64",
                                    "cluster_size=4k",
                                    "cluster_size=2M",
                                    "extended_l2=on,cluster_size=16k",
                                    "extended_l2=on",
                                    "refcount_bits=1",
                                    "refcount_bits=2",
                                    "compat=0.10,cluster_size=1k"};

/// One image over a chain of none to two others, and what it must hold.
class Life {
 public:
  explicit Life(std::uint64_t seed) : random_(seed) {
    options_ = kOptions[below(std::size(kOptions))];
    std::uint64_t size = random_size();
    contents_.resize(size);
    std::string below_path, below_format;
    const std::uint64_t depth = below(3);
    for (std::uint64_t level = 0; level <= depth; ++level) {
      const bool is_top = level == depth;
      next_ = below_path;
      const std::string path = directory_ / (is_top ? "top" : "level" + std::to_string(level));
      const bool raw = !is_top && level == 0 && below(2) == 0;
      contents_.resize(size);
      std::string options = raw ? "" : options_;
      if (!is_top && !raw) {
        options = kOptions[below(std::size(kOptions))];
        next_is_v2_ = options.starts_with("compat=0.10");
      }
      create(path, raw ? "raw" : "qcow2", options, below_path, below_format, size);
      operate(path, raw ? "raw" : "qcow2", 10);
      below_path = path, below_format = raw ? "raw" : "qcow2";
      if (!is_top) size = below(2) == 0 ? size : random_size();
    }
    top_ = below_path;
    has_backing_ = depth != 0;
  }

  /// Empty, or what went wrong.
  std::string run() {
    try {
      for (int i = 0; i < 6 && wrong_.empty(); ++i) step();
      if (wrong_.empty()) compare();
    } catch (const std::exception& error) {
      wrong_ = error.what();
    }
    return wrong_.empty() ? "" : wrong_ + "; " + options_ + ": " + story_;
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  std::uint64_t random_size() { return (1 + below(below(2) == 0 ? 8192 : 600)) * 512; }
  void tell(const std::string& what) { story_ += (story_.empty() ? "" : ", ") + what; }

  std::shared_ptr<Image> open(const std::string& path, const char* format, bool read_only = false) {
    auto image = open_image(path, {.format = format, .read_only = read_only});
    if (!image) throw std::runtime_error(image.error().message);
    return *std::move(image);
  }

  void create(const std::string& path, const std::string& format, const std::string& options,
              const std::string& backing, const std::string& backing_format, std::uint64_t size) {
    const bool ours = below(2) == 0;
    tell(fmt::format("{} create {} {}", ours ? "ours" : "QEMU's", options, size));
    if (!ours) {
      std::vector<std::string> command{"qemu-img", "create", "-q", "-f", format};
      if (!options.empty()) command.insert(command.end(), {"-o", options});
      if (!backing.empty()) command.insert(command.end(), {"-b", backing, "-F", backing_format});
      command.insert(command.end(), {path, std::to_string(size)});
      must_run(command);
      return;
    }
    NewImageOptions made;
    made.format = format == "raw" ? ImageFormat::Raw : ImageFormat::Qcow2;
    if (!made.parse(options)) throw std::runtime_error("options");
    made.qcow2.size = size;
    made.qcow2.backing_file = backing;
    if (!backing.empty()) made.qcow2.backing_format = backing_format;
    auto image = NewImage::create(path, made);
    if (!image) throw std::runtime_error(image.error().message);
    if (auto finished = image->finish(); !finished) throw std::runtime_error(finished.error().message);
  }

  void operate(const std::string& path, const char* format, int count) {
    const auto image = open(path, format);
    test::RandomOperations operations(*image, contents_, random_(), 200'000);
    // What a backing image has may come back where there are no zero clusters.
    operations.discard_zeroes = false;
    wrong_ = operations.run(count);
    if (const int error = image->flush(); error != 0 && wrong_.empty()) wrong_ = "flush";
  }

  void step() {
    switch (below(8)) {
      case 0:
      case 1:
        tell("our operations");
        return operate(top_, "qcow2", 30);
      case 2:
        return operate_by_qemu();
      case 3:
      case 4:
        return resize();
      case 5:
        return has_backing_ && below(2) == 0 ? commit() : snapshot();
      case 6:
        return has_backing_ && below(3) == 0 ? stand_alone() : snapshot();
      default:
        tell("compare");
        return compare();
    }
  }

  void operate_by_qemu() {
    tell("QEMU's operations");
    std::vector<std::string> command{"qemu-io", "-f", "qcow2", "-d", "unmap"};
    for (int i = 0; i < 12; ++i) {
      const std::uint64_t offset = below(contents_.size() / 512) * 512;
      const std::uint64_t length = std::min((1 + below(below(2) == 0 ? 300 : 16)) * 512, contents_.size() - offset);
      const std::uint64_t value = 1 + below(255);
      const std::uint64_t kind = below(4);
      constexpr const char* kWays[] = {"discard", "write -z -u", "write -z"};
      command.insert(command.end(), {"-c", kind < 3 ? fmt::format("{} {} {}", kWays[kind], offset, length)
                                                    : fmt::format("write -P {} {} {}", value, offset, length)});
      if (kind != 0) {
        std::fill_n(contents_.begin() + static_cast<std::ptrdiff_t>(offset), length,
                    kind == 3 ? static_cast<std::byte>(value) : std::byte{0});
      } else {
        discarded_.emplace_back(offset, length);
      }
    }
    command.push_back(top_);
    must_run(command);
    // What a discard leaves is QEMU's to say, but only there.
    const auto now = test::contents_by_qemu(top_, "qcow2", directory_ / "scratch");
    for (const auto& [offset, length] : discarded_) {
      std::copy_n(now.begin() + static_cast<std::ptrdiff_t>(offset), length,
                  contents_.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    discarded_.clear();
    compare();
  }

  void resize() {
    std::uint64_t size = below(2) == 0 ? random_size() : contents_.size() + below(4000) * 512;
    const bool is_v2 = options_.starts_with("compat=0.10");
    if (snapshots_ != 0 && (is_v2 || size < contents_.size())) return;
    // QEMU does not let a disk of version 2 grow over a longer backing image.
    const bool ours = below(3) != 0 || is_v2;
    // What QEMU leaves behind the end of a disk that it cuts inside a cluster, it shows when the disk grows again.
    constexpr std::uint64_t kCluster = 2 << 20;
    if (!ours && size < contents_.size())
      size = std::min((size + kCluster - 1) / kCluster * kCluster, contents_.size());
    tell(fmt::format("{} resize to {}", ours ? "our" : "QEMU's", size));
    if (ours) {
      if (auto resized = resize_image(*open(top_, "qcow2"), size); !resized) wrong_ = resized.error().message;
    } else {
      must_run({"qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", top_, std::to_string(size)});
    }
    contents_.resize(size);
  }

  void commit() {
    if (snapshots_ != 0) return;
    // QEMU does not let the lower image grow over a longer one if it is of version 2.
    const bool ours = below(3) != 0 || next_is_v2_;
    tell(ours ? "our commit" : "QEMU's commit");
    if (!ours) {
      must_run({"qemu-img", "commit", "-q", "-f", "qcow2", top_});
      return;
    }
    auto image = open_image(top_, {.format = "qcow2", .read_only = false, .write_backing = next_});
    if (!image) throw std::runtime_error(image.error().message);
    if (auto merged = merge_into(**image, *(*image)->backing()); !merged) {
      throw std::runtime_error(merged.error().message);
    }
    if (auto emptied = make_empty(dynamic_cast<Qcow2Image&>(**image)); !emptied) {
      throw std::runtime_error(emptied.error().message);
    }
  }

  void stand_alone() {
    const bool ours = below(2) == 0;
    tell(ours ? "our rebase" : "QEMU's rebase");
    if (ours) {
      const auto image = open(top_, "qcow2");
      auto& top = dynamic_cast<Qcow2Image&>(*image);
      if (auto prepared = prepare_rebase(top, nullptr); !prepared) throw std::runtime_error(prepared.error().message);
      if (auto named = top.set_backing("", std::nullopt, nullptr); !named) {
        throw std::runtime_error(named.error().message);
      }
    } else {
      must_run({"qemu-img", "rebase", "-f", "qcow2", "-b", "", top_});
    }
    has_backing_ = false;
  }

  void snapshot() {
    if (options_ == "refcount_bits=1" || (options_ == "refcount_bits=2" && snapshots_ == 2)) return;
    if (snapshots_ == 0 || below(2) == 0) {
      tell("snapshot");
      must_run({"qemu-img", "snapshot", "-c", "s" + std::to_string(++snapshots_), top_});
    } else {
      tell("snapshot removed");
      must_run({"qemu-img", "snapshot", "-d", "s" + std::to_string(snapshots_--), top_});
    }
  }

  void compare() {
    const test::Ran check = test::run_tool({"qemu-img", "check", "-f", "qcow2", top_});
    if (check.status != 0) throw std::runtime_error("QEMU's check: " + check.output);
    {
      auto image = open_image(top_, {.format = "qcow2", .with_backing = false, .for_check = true});
      if (!image) throw std::runtime_error(image.error().message);
      const auto found = check_image(dynamic_cast<Qcow2Image&>(**image), Repair::None);
      if (!found || found->corruptions + found->leaks + found->check_errors != 0) throw std::runtime_error("our check");
    }
    if (test::contents_by_qemu(top_, "qcow2", directory_ / "scratch") != contents_) {
      throw std::runtime_error("QEMU reads something else");
    }
    const auto image = open(top_, "qcow2", true);
    std::vector<std::byte> read(contents_.size());
    const iovec buffer = as_iovec(std::span(read));
    if (image->size() != read.size() || image->read(0, {&buffer, 1}) != 0 || read != contents_) {
      throw std::runtime_error("we read something else");
    }
  }

  const test::TemporaryDirectory directory_;
  std::mt19937_64 random_;
  std::string options_, top_, story_, wrong_;
  std::string next_;  ///< what `top_` stands on
  std::vector<std::byte> contents_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> discarded_;
  bool has_backing_ = false, next_is_v2_ = false;
  unsigned snapshots_ = 0;
};

TEST(ImageSequences, WhatWeAndQemuDoInTurnComesToTheSame) {
  const std::uint64_t first = number("DOPPEL_IMAGE_SEED", 1);
  const std::uint64_t count = number("DOPPEL_IMAGE_SEQUENCES", 40);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    ASSERT_EQ(Life(seed).run(), "") << "DOPPEL_IMAGE_SEED=" << seed;
  }
}

class Growing : public testing::TestWithParam<const char*> {};

/// The backing image's clusters behind the old end came to light.
TEST_P(Growing, AnOverlayThatGrowsShowsNothingOfALongerBackingImage) {
  const test::TemporaryDirectory directory;
  const std::string base = directory / "base", path = directory / "top";
  std::vector<std::byte> contents(3 << 20, std::byte{7});
  std::ofstream(base, std::ios::binary).write(reinterpret_cast<const char*>(contents.data()), 3 << 20);
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", GetParam(), "-b", base, "-F", "raw", path, "1000448"});
  {
    auto image = open_image(path, {.format = "qcow2", .read_only = false});
    ASSERT_TRUE(image.ok()) << image.error().message;
    ASSERT_TRUE(resize_image(**image, 2'500'096).ok());
  }
  contents.resize(1000448);
  contents.resize(2'500'096);
  EXPECT_NO_THROW(must_run({"qemu-img", "check", "-f", "qcow2", path}));
  EXPECT_TRUE(test::contents_by_qemu(path, "qcow2", directory / "scratch") == contents);
}

/// QEMU showed what lay behind the end.
TEST_P(Growing, ADiskThatWasCutInsideAClusterHasZerosWhereQemuLetsItGrow) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "disk";
  constexpr std::uint64_t kShort = 1'000'448;
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", GetParam(), path, "3M"});
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 0 3M", path});
  {
    auto image = open_image(path, {.format = "qcow2", .read_only = false});
    ASSERT_TRUE(image.ok()) << image.error().message;
    ASSERT_TRUE(resize_image(**image, kShort).ok());
  }
  must_run({"qemu-img", "resize", "-q", "-f", "qcow2", path, "3M"});
  std::vector<std::byte> contents(kShort, std::byte{7});
  contents.resize(3 << 20);
  EXPECT_TRUE(test::contents_by_qemu(path, "qcow2", directory / "scratch") == contents);
}

INSTANTIATE_TEST_SUITE_P(Versions, Growing,
                         testing::Values("compat=0.10", "compat=1.1", "extended_l2=on,cluster_size=16k",
                                         "cluster_size=512"));

}  // namespace
}  // namespace doppel::storage::qcow2
