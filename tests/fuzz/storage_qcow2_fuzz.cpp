#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

#include "base/log.h"
#include "storage/power_cut_file.h"
#include "storage/qcow2/check.h"
#include "storage/qcow2/image.h"
#include "storage/qcow2/snapshots.h"

namespace {

using namespace doppel::storage;

constexpr std::size_t kMaxInput = 1U << 20;
constexpr std::uint64_t kMaxFile = 64U << 20;

/// A file that refuses to become large: where a hostile image has tables far away, writes there fail.
class BoundedFile final : public doppel::test::PowerCutFile {
 public:
  using PowerCutFile::PowerCutFile;
  int write(std::uint64_t offset, Buffers from) override {
    return offset > kMaxFile || total_size(from) > kMaxFile - offset ? ENOSPC : PowerCutFile::write(offset, from);
  }
  int sync() override { return 0; }
  int write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) override {
    return length > kMaxFile ? ENOSPC : PowerCutFile::write_zeroes(offset, length, unmap);
  }
  int truncate(std::uint64_t size) override { return size > kMaxFile ? ENOSPC : PowerCutFile::truncate(size); }
};

void use(qcow2::Qcow2Image& image, std::mt19937_64& random, bool writable) {
  std::vector<std::byte> bytes(70'000);
  for (int i = 0; i < 24; ++i) {
    const std::uint64_t size = image.size();
    if (size == 0) return;
    const std::uint64_t offset = i % 2 == 0 ? random() % size : random() % std::min<std::uint64_t>(size, 1 << 20);
    const std::uint64_t length = std::min<std::uint64_t>(1 + random() % bytes.size(), size - offset);
    const iovec piece{bytes.data(), length};
    Extent extent;
    Located located;
    switch (random() % (writable ? 7 : 3)) {
      case 0:
        image.read(offset, {&piece, 1});
        break;
      case 1:
        image.extent(offset, length, extent);
        break;
      case 2:
        image.locate(false, offset, length, located);
        break;
      case 3:
        image.write_zeroes(offset, length, random() % 2 == 0);
        break;
      case 4:
        image.discard(offset, length);
        break;
      case 5:
        image.flush();
        break;
      default:
        image.write(offset, {&piece, 1});
    }
  }
}

}  // namespace

/// Any bytes are refused, or are an image that can be read, examined, written and repaired without harm.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > kMaxInput) return 0;
  static_cast<void>(doppel::log::configure(doppel::log::Level::Off, {}));
  const auto input = std::as_bytes(std::span{data, size});
  std::mt19937_64 random(size);
  const std::vector<std::byte> contents(input.begin(), input.end());
  const auto file = std::make_shared<BoundedFile>(contents);
  if (auto image = qcow2::Qcow2Image::open(file, nullptr, {.read_only = true}); image) {
    static_cast<void>(qcow2::read_snapshots(*file, (*image)->header()));
    use(**image, random, false);
    static_cast<void>(qcow2::check_image(**image, qcow2::Repair::None));
  } else if (image.error().message.empty()) {
    std::abort();
  }
  if (auto image = qcow2::Qcow2Image::open(std::make_shared<BoundedFile>(contents), nullptr, {.read_only = false});
      image) {
    use(**image, random, true);
    static_cast<void>((*image)->resize((*image)->size() / 2 / 512 * 512 + 4096));
  }
  if (auto image = qcow2::Qcow2Image::open(std::make_shared<BoundedFile>(contents), nullptr,
                                           {.read_only = false, .for_check = true});
      image) {
    static_cast<void>(qcow2::check_image(**image, qcow2::Repair::All));
  }
  return 0;
}
