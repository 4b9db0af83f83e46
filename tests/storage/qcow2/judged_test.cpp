// Images of every kind, judged by qemu-img and qemu-io.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/temporary_directory.h"
#include "storage/open.h"
#include "storage/qcow2/create.h"
#include "storage/random_operations.h"
#include "storage/tools.h"

namespace doppel::storage::qcow2 {
namespace {

using test::must_run;

struct Variant {
  const char* name;
  const char* options;
  std::uint64_t size;
  std::uint64_t largest;
};

std::ostream& operator<<(std::ostream& out, const Variant& variant) {
  return out << variant.name;
}

constexpr Variant kVariants[] = {
    {"v2", "compat=0.10", 12 << 20, 300'000},
    {"v3", "compat=1.1", 12 << 20, 300'000},
    {"lazy", "lazy_refcounts=on", 12 << 20, 300'000},
    {"c512", "cluster_size=512", 3 << 20, 100'000},
    {"c512r64", "cluster_size=512,refcount_bits=64", 3 << 20, 100'000},
    {"c4k", "cluster_size=4k", 6 << 20, 300'000},
    {"c2M", "cluster_size=2M", (30 << 20) + 512, 5'000'000},
    {"ext", "extended_l2=on", (12 << 20) + 1536, 300'000},
    {"ext16k", "extended_l2=on,cluster_size=16k", 6 << 20, 300'000},
    {"ext2M", "extended_l2=on,cluster_size=2M,lazy_refcounts=on", 24 << 20, 3'000'000},
    {"r1", "refcount_bits=1", 12 << 20, 300'000},
    {"r2", "refcount_bits=2", 12 << 20, 300'000},
    {"r4", "refcount_bits=4", 12 << 20, 300'000},
    {"r8", "refcount_bits=8", 12 << 20, 300'000},
    {"r32", "refcount_bits=32", 12 << 20, 300'000},
    {"r64", "refcount_bits=64", 12 << 20, 300'000},
    {"zstd", "compression_type=zstd", 12 << 20, 300'000},
    {"metadata", "preallocation=metadata", 12 << 20, 300'000},
};

class Judged : public testing::TestWithParam<Variant> {
 protected:
  std::shared_ptr<Image> open(const std::string& path, bool read_only = false) {
    auto image = open_image(path, {.format = "qcow2", .read_only = read_only});
    if (!image) throw std::runtime_error(image.error().message);
    return std::move(*image);
  }

  void expect_right(const std::string& path, const std::vector<std::byte>& reference) {
    EXPECT_NO_THROW(must_run({"qemu-img", "check", "-f", "qcow2", path}));
    EXPECT_TRUE(test::contents_by_qemu(path, "qcow2", directory_ / "scratch") == reference)
        << "QEMU reads something else";
  }

  test::TemporaryDirectory directory_;
  const Variant variant_ = GetParam();
  const std::string size_ = std::to_string(variant_.size);
  const std::string path_ = directory_ / "disk.qcow2";
};

TEST_P(Judged, RandomOperationsOnAnImageOfQemu) {
  must_run({"qemu-img", "create", "-f", "qcow2", "-o", variant_.options, path_, size_});
  std::vector<std::byte> reference(variant_.size);
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    {
      const auto image = open(path_);
      ASSERT_EQ(image->size(), variant_.size);
      EXPECT_EQ(test::RandomOperations(*image, reference, seed, variant_.largest).run(300), "");
    }
    expect_right(path_, reference);
  }
}

TEST_P(Judged, RandomOperationsOverABackingChain) {
  const std::string base = directory_ / "base.raw";
  const std::string middle = directory_ / "middle.qcow2";
  std::vector<std::byte> reference(variant_.size);
  {
    // The base is shorter than the disk.
    const std::size_t length = variant_.size / 2 + 512;
    for (std::size_t i = 0; i < length; ++i) reference[i] = static_cast<std::byte>(i / 4096 + i);
    std::ofstream(base, std::ios::binary)
        .write(reinterpret_cast<const char*>(reference.data()), static_cast<long>(length));
  }
  must_run({"qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "raw", middle, size_});
  {
    const auto image = open(middle);
    EXPECT_EQ(test::RandomOperations(*image, reference, 11, variant_.largest).run(50), "");
  }
  expect_right(middle, reference);
  std::string options = variant_.options;
  if (options.starts_with("preallocation")) options = "compat=1.1";
  must_run({"qemu-img", "create", "-f", "qcow2", "-o", options, "-b", "middle.qcow2", "-F", "qcow2", path_, size_});
  const std::vector<std::byte> middle_before = test::file_bytes(middle);
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    {
      const auto image = open(path_);
      test::RandomOperations operations(*image, reference, seed, variant_.largest);
      operations.discard_zeroes = std::string_view(variant_.name) != "v2";
      EXPECT_EQ(operations.run(200), "");
    }
    expect_right(path_, reference);
  }
  EXPECT_TRUE(test::file_bytes(middle) == middle_before) << "a backing file was written";
}

TEST_P(Judged, WorksOnWhatQemuWrote) {
  must_run({"qemu-img", "create", "-f", "qcow2", "-o", variant_.options, path_, size_});
  std::vector<std::byte> reference(variant_.size);
  std::mt19937_64 random(5);
  std::vector<std::string> command{"qemu-io", "-f", "qcow2"};
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t offset = random() % (variant_.size / 512) * 512;
    const std::uint64_t length = std::min((1 + random() % 300) * 512, variant_.size - offset);
    const unsigned value = 1 + random() % 255;
    const bool zero = i % 5 == 4;
    command.insert(command.end(), {"-c", zero ? fmt::format("write -z -u {} {}", offset, length)
                                              : fmt::format("write -P {} {} {}", value, offset, length)});
    std::fill_n(reference.begin() + static_cast<long>(offset), length,
                zero ? std::byte{0} : static_cast<std::byte>(value));
  }
  command.push_back(path_);
  must_run(command);
  // Snapshots in the file share clusters, which must then be copied.
  const bool with_snapshot = std::string_view(variant_.options) != "refcount_bits=1";
  if (with_snapshot) must_run({"qemu-img", "snapshot", "-c", "before", path_});
  const std::vector<std::byte> before = reference;
  {
    const auto image = open(path_);
    EXPECT_EQ(test::RandomOperations(*image, reference, 3, variant_.largest).run(200), "");
  }
  expect_right(path_, reference);
  if (!with_snapshot) return;
  must_run({"qemu-img", "snapshot", "-a", "before", path_});
  expect_right(path_, before);
  {
    const auto image = open(path_);
    reference = before;
    EXPECT_EQ(test::RandomOperations(*image, reference, 4, variant_.largest).run(100), "");
  }
  must_run({"qemu-img", "snapshot", "-d", "before", path_});
  expect_right(path_, reference);
}

TEST_P(Judged, ReadsAndOverwritesCompressedClusters) {
  const std::string raw = directory_ / "source.raw";
  std::vector<std::byte> reference(variant_.size);
  std::mt19937_64 random(5);
  for (std::size_t i = 0; i < reference.size(); ++i) {
    // Compressible, incompressible and empty parts.
    const std::size_t kind = i / 150'000 % 3;
    if (kind == 0) reference[i] = static_cast<std::byte>(i / 100);
    if (kind == 1 && i % 8 == 0) {
      const std::uint64_t noise = random();
      std::memcpy(&reference[i], &noise, std::min<std::size_t>(8, reference.size() - i));
    }
  }
  std::ofstream(raw, std::ios::binary)
      .write(reinterpret_cast<const char*>(reference.data()), static_cast<long>(reference.size()));
  std::string options = variant_.options;
  if (options.starts_with("preallocation")) options = "compat=1.1";
  must_run({"qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, path_});
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    {
      const auto image = open(path_);
      EXPECT_EQ(test::RandomOperations(*image, reference, seed, variant_.largest).run(150), "");
    }
    expect_right(path_, reference);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Judged, testing::ValuesIn(kVariants),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel::storage::qcow2
