#include "base/mmap.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <utility>

#include "base/bits.h"
#include "base/system_error.h"

namespace doppel {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<Mapping> Mapping::anonymous(std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (size == 0 || size > std::numeric_limits<std::size_t>::max() - page) {
    return Error{fmt::format("cannot map {} bytes of memory", size)};
  }
  size = align_up(size, page);
  void* address = ::mmap(nullptr, size, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return system_error(fmt::format("cannot map {} bytes of memory", size));
  return Mapping(static_cast<std::byte*>(address), size);
}

Result<Mapping> Mapping::file(int fd, std::size_t size, std::size_t offset, Sharing sharing) {
  const int flags = sharing == Sharing::Shared ? MAP_SHARED : MAP_PRIVATE;
  void* address = ::mmap(nullptr, size, kReadWrite, flags, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return system_error(fmt::format("cannot map {} bytes of a file", size));
  return Mapping(static_cast<std::byte*>(address), size);
}

Result<Mapping> Mapping::aligned_file(int fd, std::size_t size, std::size_t alignment) {
  Result<Mapping> space = anonymous(size + alignment);
  if (!space) return space.error();
  std::byte* const end = space->data_ + space->size_;
  auto* const start = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(space->data_), alignment));
  if (::mmap(start, size, kReadWrite, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    return system_error(fmt::format("cannot map {} bytes of a file", size));
  }
  if (start != space->data_) ::munmap(space->data_, static_cast<std::size_t>(start - space->data_));
  if (start + size != end) ::munmap(start + size, static_cast<std::size_t>(end - start) - size);
  space->data_ = start;
  space->size_ = size;
  return space;
}

}  // namespace doppel
