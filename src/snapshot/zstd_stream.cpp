#include "snapshot/zstd_stream.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "base/system_error.h"

namespace doppel::snapshot {
namespace {

constexpr int kLevel = 3;

}  // namespace

Compressor::Compressor(int fd) : fd_(fd), context_(ZSTD_createCCtx(), ZSTD_freeCCtx), out_(ZSTD_CStreamOutSize()) {
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
}

Result<void> Compressor::run(std::span<const std::byte> bytes, ZSTD_EndDirective directive) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    const std::size_t left = ZSTD_compressStream2(context_.get(), &out, &in, directive);
    if (ZSTD_isError(left) != 0) return Error{fmt::format("cannot compress: {}", ZSTD_getErrorName(left))};
    if (Result<void> written = write_all(fd_, std::span(out_).first(out.pos)); !written) return written;
    if (in.pos == in.size && (directive == ZSTD_e_continue || left == 0)) return {};
  }
}

Decompressor::Decompressor(int fd)
    : fd_(fd), context_(ZSTD_createDCtx(), ZSTD_freeDCtx), buffer_(ZSTD_DStreamInSize()) {}

Result<void> Decompressor::get(std::span<std::byte> bytes) {
  ZSTD_outBuffer out{bytes.data(), bytes.size(), 0};
  while (out.pos < out.size) {
    if (Result<void> stepped = step(out); !stepped) return stepped;
  }
  return {};
}

Result<std::vector<std::byte>> Decompressor::block(std::uint64_t length) {
  // Grows with what is there, not with what the file says of it.
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  std::vector<std::byte> bytes;
  while (bytes.size() < length) {
    const std::size_t done = bytes.size();
    bytes.resize(std::min(length, done + kStep));
    if (Result<void> got = get(std::span(bytes).subspan(done)); !got) return got.error();
  }
  return bytes;
}

Result<void> Decompressor::finish() {
  std::byte none{};
  while (!ended_) {
    ZSTD_outBuffer out{&none, 0, 0};
    if (Result<void> stepped = step(out); !stepped) return stepped;
  }
  return {};
}

Result<void> Decompressor::step(ZSTD_outBuffer& out) {
  const Error damaged{"the file is damaged, or nothing that doppel has compressed"};
  if (ended_) return damaged;
  if (in_.pos == in_.size && !drained_) {
    const ssize_t got = ::read(fd_, buffer_.data(), buffer_.size());
    if (got < 0 && errno == EINTR) return {};
    if (got < 0) return system_error("cannot read a compressed file");
    in_ = {buffer_.data(), static_cast<std::size_t>(got), 0};
    drained_ = got == 0;
  }
  const std::size_t before = out.pos;
  const std::size_t consumed = in_.pos;
  const std::size_t left = ZSTD_decompressStream(context_.get(), &out, &in_);
  if (ZSTD_isError(left) != 0) return damaged;
  ended_ = left == 0;
  if (drained_ && !ended_ && out.pos == before && in_.pos == consumed) return damaged;
  return {};
}

}  // namespace doppel::snapshot
