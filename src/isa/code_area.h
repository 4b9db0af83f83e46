#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"

namespace doppel::isa {

/// Memory for generated code, mapped twice: writable at one address, executable at another, never both (W^X). Not
/// thread-safe.
class CodeArea {
 public:
  static Result<CodeArea> create(std::size_t size);
  /// For another process to run, which is to map fd() at `execute`; nothing is executable here.
  static Result<CodeArea> create_for_other(std::size_t size, std::byte* execute);

  /// Room for `size` bytes, aligned to 32; nullptr when the area is full. The address is where the code will run.
  std::byte* reserve(std::size_t size);
  /// What reserve(size) would return.
  std::byte* peek(std::size_t size) const;
  /// Puts code where reserve() made room.
  void write(std::byte* address, std::span<const std::byte> code);

  std::size_t used() const { return used_; }
  /// Gives back what was reserved since used() was this.
  void rewind(std::size_t used) { used_ = used; }

  std::span<const std::byte> executable() const { return {execute_, size_}; }
  /// Of create_for_other().
  int fd() const { return file_.get(); }
  CodeArea(CodeArea&& other) noexcept;
  CodeArea& operator=(CodeArea&&) = delete;
  CodeArea(const CodeArea&) = delete;
  CodeArea& operator=(const CodeArea&) = delete;
  ~CodeArea();

 private:
  CodeArea(Mapping writable, std::byte* execute, std::size_t size, UniqueFd file)
      : file_(std::move(file)), writable_(std::move(writable)), execute_(execute), size_(size) {}

  UniqueFd file_;  ///< empty where the code runs in this process
  Mapping writable_;
  std::byte* execute_;
  std::size_t size_;
  std::size_t used_ = 0;
};

}  // namespace doppel::isa
