#include "isa/code_area.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bits.h"

namespace doppel::isa {

namespace {

constexpr std::size_t kAlignment = 32;

Error failed(const char* what) {
  return Error{std::string("cannot ") + what + " memory for generated code: " + std::strerror(errno)};
}

}  // namespace

Result<CodeArea> CodeArea::create(std::size_t size) {
  Result<CodeArea> area = create_for_other(size, nullptr);
  if (!area) return area;
  void* execute = mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED, area->fd(), 0);
  if (execute == MAP_FAILED) return failed("map executable");
  area->execute_ = static_cast<std::byte*>(execute);
  area->file_.reset();
  return area;
}

Result<CodeArea> CodeArea::create_for_other(std::size_t size, std::byte* execute) {
  UniqueFd file(memfd_create("doppel-code", MFD_CLOEXEC));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(size)) != 0) return failed("reserve");
  Result<Mapping> writable = Mapping::file(file.get(), size, 0, Mapping::Sharing::Shared);
  if (!writable) return writable.error();
  return CodeArea(std::move(*writable), execute, size, std::move(file));
}

CodeArea::CodeArea(CodeArea&& other) noexcept
    : file_(std::move(other.file_)),
      writable_(std::move(other.writable_)),
      execute_(std::exchange(other.execute_, nullptr)),
      size_(other.size_),
      used_(other.used_) {}

CodeArea::~CodeArea() {
  if (execute_ != nullptr && !file_.valid()) munmap(execute_, size_);
}

std::byte* CodeArea::peek(std::size_t size) const {
  const std::size_t start = align_up(used_, kAlignment);
  return start <= size_ && size <= size_ - start ? execute_ + start : nullptr;
}

std::byte* CodeArea::reserve(std::size_t size) {
  std::byte* start = peek(size);
  if (start != nullptr) used_ = static_cast<std::size_t>(start - execute_) + size;
  return start;
}

void CodeArea::write(std::byte* address, std::span<const std::byte> code) {
  std::memcpy(writable_.data() + (address - execute_), code.data(), code.size());
}

}  // namespace doppel::isa
