#include "storage/host_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <vector>

#include "base/system_error.h"
#include "storage/file_lock.h"

namespace doppel::storage {
namespace {

constexpr std::uint64_t kDirectAlignment = 4096;  ///< enough for every device; a smaller one may be found

bool aligned(std::uint64_t alignment, std::uint64_t offset, Buffers buffers) {
  std::uint64_t mixed = offset;
  for (const iovec& piece : buffers) mixed |= reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len;
  return mixed % alignment == 0;
}

/// Runs `transfer(iov, count, offset)` until all of `buffers` has passed. `at_end` is called with what is left when it
/// returns 0.
template <class Transfer, class AtEnd>
int transfer_all(std::uint64_t offset, Buffers buffers, Transfer&& transfer, AtEnd&& at_end) {
  std::vector<iovec> rest;
  while (!buffers.empty()) {
    const ssize_t moved = transfer(buffers.data(), static_cast<int>(std::min<std::size_t>(buffers.size(), IOV_MAX)),
                                   static_cast<off_t>(offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) {
      if (total_size(buffers) == 0) return 0;
      return at_end(buffers);
    }
    offset += static_cast<std::uint64_t>(moved);
    const std::uint64_t left = total_size(buffers) - static_cast<std::uint64_t>(moved);
    if (left == 0) return 0;
    std::vector<iovec> next = slice(buffers, static_cast<std::uint64_t>(moved), left);
    rest.swap(next);
    buffers = rest;
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<HostFile>> HostFile::open(const std::string& path, const HostFileOptions& options) {
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  UniqueFd fd(::open(path.c_str(), access | O_CLOEXEC | (options.create ? O_CREAT | O_EXCL : 0), 0644));
  if (!fd.valid()) {
    return system_error(std::string("cannot ") + (options.create ? "create " : "open ") + path +
                        (options.read_only ? "" : " for writing"));
  }
  return adopt(std::move(fd), path, options);
}

Result<std::unique_ptr<HostFile>> HostFile::adopt(UniqueFd fd, const std::string& path, const HostFileOptions& options,
                                                  UniqueFd direct) {
  std::unique_ptr<HostFile> file(new HostFile);
  file->path_ = path;
  file->read_only_ = options.read_only;
  file->fd_ = std::move(fd);
  file->locked_ = options.lock;
  file->kept_ = options.kept;
  if (auto identified = file->identify(); !identified) return identified.error();
  if (options.lock) {
    if (auto locked = lock_image(file->fd_.get(), path, options.read_only); !locked) return locked.error();
  }
  if (direct.valid()) {
    file->use_direct(std::move(direct));
  } else if (options.cache == CacheMode::None) {
    file->open_direct();
  }
  return file;
}

Result<void> HostFile::share() {
  if (locked_) unlock_writing(fd_.get());
  return {};
}

Result<void> HostFile::lock_for_writing() {
  return locked_ ? lock_image(fd_.get(), path_, false) : Result<void>{};
}

Result<void> HostFile::identify() {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return system_error("cannot examine " + path_);
  block_device_ = S_ISBLK(status.st_mode);
  if (!block_device_ && !S_ISREG(status.st_mode)) return Error{path_ + " is neither a file nor a block device"};
  if (block_device_ && ::ioctl(fd_.get(), BLKGETSIZE64, &block_device_size_) != 0) {
    return system_error("cannot learn the size of " + path_);
  }
  return {};
}

void HostFile::open_direct() {
  // Through /proc, so that it is the same file whatever happened to the name. A file system without O_DIRECT (tmpfs
  // once) is served through the cache.
  const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
  use_direct(UniqueFd(::open(self.c_str(), (read_only_ ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC)));
}

void HostFile::use_direct(UniqueFd direct) {
  direct_ = std::move(direct);
  alignment_ = kDirectAlignment;
  int sector = 0;
  if (block_device_ && ::ioctl(fd_.get(), BLKSSZGET, &sector) == 0 && sector > 0) {
    alignment_ = static_cast<std::uint64_t>(sector);
  }
}

std::uint64_t HostFile::size() const {
  if (block_device_) return block_device_size_;
  struct stat status {};
  return ::fstat(fd_.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

int HostFile::descriptor(std::uint64_t offset, Buffers buffers) const {
  return direct_.valid() && aligned(alignment_, offset, buffers) ? direct_.get() : fd_.get();
}

int HostFile::read(std::uint64_t offset, Buffers into) {
  return transfer_all(
      offset, into,
      [this](const iovec* iov, int count, off_t at) {
        return ::preadv(descriptor(static_cast<std::uint64_t>(at), {iov, static_cast<std::size_t>(count)}), iov, count,
                        at);
      },
      [](Buffers rest) {
        fill_zero(rest);
        return 0;
      });
}

int HostFile::write(std::uint64_t offset, Buffers from) {
  if (read_only_) return EROFS;
  return transfer_all(
      offset, from,
      [this](const iovec* iov, int count, off_t at) {
        return ::pwritev(descriptor(static_cast<std::uint64_t>(at), {iov, static_cast<std::size_t>(count)}), iov, count,
                         at);
      },
      [](Buffers) { return ENOSPC; });
}

int HostFile::sync() {
  if (read_only_ || !kept_) return 0;
  return ::fdatasync(fd_.get()) == 0 ? 0 : errno;
}

int HostFile::keep() {
  return kept_.exchange(true) ? 0 : sync();
}

int HostFile::punch_hole(std::uint64_t offset, std::uint64_t length) {
  if (read_only_) return EROFS;
  if (length == 0) return 0;
  const int done = ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                               static_cast<off_t>(length));
  return done == 0 ? 0 : errno;
}

int HostFile::write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) {
  if (read_only_) return EROFS;
  if (length == 0) return 0;
  const std::uint64_t end = size();
  if (!block_device_ && offset + length > end) {
    // Growing a file makes zeros of its new part.
    const std::uint64_t inside = offset < end ? end - offset : 0;
    if (::ftruncate(fd_.get(), static_cast<off_t>(offset + length)) != 0) return errno;
    if (inside == 0) return 0;
    length = inside;
  }
  if (may_unmap && punch_hole(offset, length) == 0) return 0;
  if (::fallocate(fd_.get(), FALLOC_FL_ZERO_RANGE | (block_device_ ? FALLOC_FL_KEEP_SIZE : 0),
                  static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) {
    return 0;
  }
  alignas(4096) static constexpr std::array<std::byte, 65536> kZeroes{};
  while (length > 0) {
    const std::uint64_t taken = std::min<std::uint64_t>(length, kZeroes.size());
    if (const int error = write_bytes(offset, std::span(kZeroes).first(taken)); error != 0) return error;
    offset += taken;
    length -= taken;
  }
  return 0;
}

int HostFile::truncate(std::uint64_t size) {
  if (read_only_) return EROFS;
  if (block_device_) return size <= this->size() ? 0 : ENOSPC;
  return ::ftruncate(fd_.get(), static_cast<off_t>(size)) == 0 ? 0 : errno;
}

int HostFile::allocate(std::uint64_t offset, std::uint64_t length) {
  if (read_only_) return EROFS;
  if (block_device_ || length == 0) return 0;
  return ::fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0 ? 0 : errno;
}

FileExtent HostFile::extent(std::uint64_t offset, std::uint64_t length) {
  const auto begin = static_cast<off_t>(offset);
  const off_t data = ::lseek(fd_.get(), begin, SEEK_DATA);
  if (data < 0) return {length, errno != ENXIO};  // ENXIO: a hole up to the end
  if (data > begin) return {std::min(length, static_cast<std::uint64_t>(data) - offset), false};
  const off_t hole = ::lseek(fd_.get(), begin, SEEK_HOLE);
  if (hole <= begin) return {length, true};
  return {std::min(length, static_cast<std::uint64_t>(hole) - offset), true};
}

}  // namespace doppel::storage
