#include "storage/raw_image.h"

#include <array>
#include <cerrno>

#include "base/system_error.h"
#include "storage/probe.h"

namespace doppel::storage {
namespace {

constexpr std::uint64_t kSector = 512;

}  // namespace

RawImage::RawImage(std::shared_ptr<File> file, bool read_only, bool guard_header)
    : file_(std::move(file)),
      size_((file_->size() + kSector - 1) / kSector * kSector),
      read_only_(read_only),
      guard_header_(guard_header) {}

int RawImage::write(std::uint64_t offset, Buffers from) {
  if (read_only_) return EROFS;
  if (guard_header_ && offset < kSector) {
    std::array<std::byte, kSector> header{};
    if (const int error = file_->read_bytes(0, header); error != 0) return error;
    gather(from, std::span(header).subspan(offset));
    if (probe_format(header) != ImageFormat::Raw) return EPERM;
  }
  const int error = file_->write(offset, from);
  state_.note_written();
  return error;
}

int RawImage::write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) {
  if (read_only_) return EROFS;
  const int error = file_->write_zeroes(offset, length, may_unmap);
  state_.note_written();
  return error;
}

int RawImage::discard(std::uint64_t offset, std::uint64_t length) {
  if (read_only_) return EROFS;
  const int error = file_->punch_hole(offset, length);
  state_.note_written();
  return error == EOPNOTSUPP ? 0 : error;  // a hint only
}

int RawImage::flush() {
  return state_.sync(*file_);
}

int RawImage::extent(std::uint64_t offset, std::uint64_t length, Extent& extent) {
  const FileExtent run = file_->extent(offset, length);
  extent = {run.length, run.data ? Extent::Kind::Data : Extent::Kind::Zero, file_.get(), offset, true};
  return 0;
}

bool RawImage::locate(bool for_write, std::uint64_t offset, std::uint64_t length, Located& located) {
  if (for_write && guard_header_ && offset < kSector) return false;
  located.runs.push_back({file_.get(), offset, length});
  return true;
}

Result<void> RawImage::freeze() {
  if (read_only_) return {};
  int error = flush();
  if (error == 0) error = keep();
  if (error != 0) return system_error("cannot write " + name(), error);
  if (auto shared = file_->share(); !shared) return shared;
  read_only_ = true;
  return {};
}

Result<void> RawImage::thaw() {
  if (!read_only_) return {};
  if (file_->read_only()) return Error{name() + " was opened for reading only"};
  if (auto locked = file_->lock_for_writing(); !locked) return locked;
  read_only_ = false;
  return {};
}

int RawImage::resize(std::uint64_t size) {
  if (read_only_) return EROFS;
  if (const int error = file_->truncate(size); error != 0) return error;
  size_ = size;
  state_.note_written();
  return 0;
}

}  // namespace doppel::storage
