#include "storage/qcow2/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "base/system_error.h"
#include "storage/qcow2/check.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kL2SliceSize = 16384;
constexpr std::size_t kUnpackedBytes = 4U << 20;

// Offsets of header fields that are written by themselves.
constexpr std::uint64_t kIncompatibleFeaturesAt = 72;
constexpr std::uint64_t kAutoclearFeaturesAt = 88;

int write_number(File& file, std::uint64_t at, std::uint64_t value) {
  std::array<std::byte, 8> bytes{};
  store_be(bytes.data(), value);
  return file.write_bytes(at, bytes);
}

}  // namespace

Qcow2Image::Qcow2Image(std::shared_ptr<File> file, std::shared_ptr<Image> backing, const Header& header,
                       const Options& options)
    : file_(std::move(file)),
      options_{options.read_only, options.for_check},
      header_(header),
      size_(header.size),
      unpacked_(std::max<std::size_t>(2, kUnpackedBytes >> header.cluster_bits)),
      backing_(std::move(backing)),
      l2_(*file_, std::min(header.cluster_size(), kL2SliceSize), options.l2_cache_bytes),
      refcounts_(*file_, header_, options.refcount_cache_bytes) {}

Result<std::shared_ptr<Qcow2Image>> Qcow2Image::open(std::shared_ptr<File> file, std::shared_ptr<Image> backing,
                                                     const Options& options) {
  auto header = parse_header(*file);
  if (!header) return header.error();
  std::shared_ptr<Qcow2Image> image(new Qcow2Image(std::move(file), std::move(backing), *header, options));
  if (auto loaded = image->load(); !loaded) return loaded.error();
  if (!options.read_only && !options.for_check) {
    if (auto opened = image->open_for_writing(); !opened) return opened.error();
  }
  return image;
}

Qcow2Image::~Qcow2Image() {
  if (options_.read_only) return;
  if (const int error = flush(); error != 0) {
    log::error("storage", "{}", system_error("cannot write the last changes of " + name(), error).message);
  } else if (dirty_bit_set_ && (write_dirty_bit(false) != 0 || file_->sync() != 0)) {
    log::error("storage", "{} stays marked dirty: it will be repaired when it is next opened", name());
  }
}

Result<void> Qcow2Image::load() {
  std::vector<std::byte> bytes(header_.l1_size * std::uint64_t{8});
  if (const int error = file_->read_bytes(header_.l1_table_offset, bytes); error != 0) {
    return system_error("cannot read the L1 table of " + name(), error);
  }
  l1_.resize(header_.l1_size);
  for (std::size_t i = 0; i < l1_.size(); ++i) l1_[i] = load_be<std::uint64_t>(&bytes[i * 8]);
  return refcounts_.load();
}

Result<void> Qcow2Image::open_for_writing() {
  if ((header_.incompatible_features & kCorrupt) != 0) {
    return Error{name() + " is marked corrupt; repair it with: doppel image check -r all " + name()};
  }
  if ((header_.incompatible_features & kDirty) != 0) {
    log::info("storage", "{} was not closed cleanly; repairing its refcounts", name());
    auto checked = check_image(*this, Repair::All);
    if (!checked) return checked.error();
    if (checked->check_errors != 0 || checked->corruptions > checked->corruptions_fixed) {
      return Error{name() + " was not closed cleanly and cannot be repaired; see doppel image check " + name()};
    }
  }
  if (header_.autoclear_features != 0) {
    // Bitmaps and whatever else does not follow what we will write: its owner is to notice.
    header_.autoclear_features = 0;
    int error = write_number(*file_, kAutoclearFeaturesAt, 0);
    if (error == 0) error = file_->sync();
    if (error != 0) return system_error("cannot write " + name(), error);
  }
  return {};
}

/// Writes the header so that a power cut leaves the old one or the new one: what does not fit into its first sector
/// goes first, to where the old one has nothing.
Result<void> Qcow2Image::write_header() {
  constexpr std::uint64_t kSector = 512;
  const std::uint64_t used = header_.backing_file_offset;
  const std::uint64_t end = header_.cluster_size();
  // A name has at most 1023 bytes, so one of two places is free.
  const std::uint64_t name_at = end < 8 * kSector ? 0 : used >= 4 * kSector || used == 0 ? kSector : 4 * kSector;
  auto bytes = serialise_header(header_, name_at);
  if (!bytes) return bytes.error();
  const std::span<const std::byte> all(*bytes);
  const std::uint64_t first = std::min<std::uint64_t>(all.size(), kSector);
  int error = first < all.size() ? file_->write_bytes(first, all.subspan(first)) : 0;
  if (error == 0) error = file_->sync();
  if (error == 0) error = file_->write_bytes(0, all.first(first));
  if (error == 0) error = file_->sync();
  if (error != 0) return system_error("cannot write " + name(), error);
  header_.backing_file_offset = load_be<std::uint64_t>(&all[8]);
  return {};
}

Result<void> Qcow2Image::freeze() {
  if (options_.read_only) return {};
  const auto hold = ranges_.acquire(0, ~std::uint64_t{0}, RangeLock::Mode::Exclusive);
  int error = flush();
  if (error == 0 && dirty_bit_set_) error = write_dirty_bit(false);
  if (error == 0) error = keep();
  if (error == 0) error = file_->sync();
  if (error != 0) return system_error("cannot write " + name(), error);
  if (auto shared = file_->share(); !shared) return shared;
  options_.read_only = true;
  return {};
}

Result<void> Qcow2Image::thaw() {
  if (!options_.read_only) return {};
  if (file_->read_only()) return Error{name() + " was opened for reading only"};
  if (auto locked = file_->lock_for_writing(); !locked) return locked;
  options_.read_only = false;
  return {};
}

std::shared_ptr<Image> Qcow2Image::backing() const {
  const std::lock_guard guard(meta_);
  return backing_;
}

Result<void> Qcow2Image::set_backing(const std::string& name, const std::optional<std::string>& format,
                                     std::shared_ptr<Image> backing) {
  const auto hold = ranges_.acquire(0, ~std::uint64_t{0}, RangeLock::Mode::Exclusive);
  if (const int error = flush(); error != 0) return system_error("cannot write " + this->name(), error);
  const Header before = header_;
  header_.backing_file = name;
  header_.backing_format = name.empty() ? std::nullopt : format;
  if (auto written = write_header(); !written) {
    header_ = before;
    return written.error();
  }
  const std::lock_guard guard(meta_);
  backing_ = std::move(backing);
  return {};
}

int Qcow2Image::write_dirty_bit(bool dirty) {
  const std::uint64_t features =
      dirty ? header_.incompatible_features | kDirty : header_.incompatible_features & ~kDirty;
  if (features == header_.incompatible_features) return 0;
  if (const int error = write_number(*file_, kIncompatibleFeaturesAt, features); error != 0) return error;
  header_.incompatible_features = features;
  dirty_bit_set_ = dirty;
  return 0;
}

Result<void> Qcow2Image::mark_clean() {
  if (header_.version < 3) return {};
  header_.incompatible_features &= ~(kDirty | kCorrupt);
  int error = file_->sync();
  if (error == 0) error = write_number(*file_, kIncompatibleFeaturesAt, header_.incompatible_features);
  if (error == 0) error = file_->sync();
  if (error != 0) return system_error("cannot write " + name(), error);
  return {};
}

}  // namespace doppel::storage::qcow2
