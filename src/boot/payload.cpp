#include "boot/payload.h"

#include <fmt/format.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/bits.h"

namespace doppel::boot {
namespace {

using Bytes = std::span<const std::byte>;
using Unpacked = Result<std::vector<std::byte>>;

struct Magic {
  std::string_view bytes;
  Compression compression;
};
using namespace std::string_view_literals;
constexpr std::array kMagics{
    Magic{"\x1F\x8B\x08"sv, Compression::Gzip},     Magic{"\3757zXZ\0"sv, Compression::Xz},
    Magic{"\x5D\0\0"sv, Compression::Lzma},         Magic{"\x02\x21\x4C\x18"sv, Compression::Lz4},
    Magic{"\x28\xB5\x2F\xFD"sv, Compression::Zstd}, Magic{"\177ELF"sv, Compression::None},
};

Error damaged(std::string_view format, std::string_view why) {
  return Error{fmt::format("the kernel's compressed part ({}) is damaged: {}; fetch the kernel again", format, why)};
}
Error too_long(std::string_view format, std::size_t limit) {
  return Error{fmt::format("the kernel's compressed part ({}) unpacks to more than {} MiB: it is not a kernel", format,
                           limit >> 20)};
}

/// The output of a stream decoder: a vector that grows in steps, never past its limit.
class Output {
 public:
  explicit Output(std::size_t limit) : limit_(limit) {}

  /// Makes room; false at the limit.
  bool grow() {
    if (bytes_.size() >= limit_) return false;
    bytes_.resize(std::min(std::max(bytes_.size() * 2, std::size_t{1} << 20), limit_));
    return true;
  }
  std::byte* free_start() { return bytes_.data() + used_; }
  std::size_t free_size() const { return bytes_.size() - used_; }
  void produced(std::size_t count) { used_ += count; }
  std::vector<std::byte> take() {
    bytes_.resize(used_);
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t used_ = 0;
  std::size_t limit_;
};

Unpacked unpack_gzip(Bytes in, std::size_t limit) {
  constexpr int kGzipWrapper = 16;
  z_stream stream{};
  if (inflateInit2(&stream, MAX_WBITS + kGzipWrapper) != Z_OK) return Error{"out of memory for unpacking the kernel"};
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  Output out(limit);
  for (;;) {
    if (out.free_size() == 0 && !out.grow()) return too_long("gzip", limit);
    const auto room = static_cast<uInt>(out.free_size());
    stream.next_out = reinterpret_cast<Bytef*>(out.free_start());
    stream.avail_out = room;
    const int status = inflate(&stream, Z_NO_FLUSH);
    out.produced(room - stream.avail_out);
    if (status == Z_STREAM_END) return out.take();
    if (status != Z_OK) return damaged("gzip", status == Z_BUF_ERROR ? "it ends early" : "bad data");
  }
}

Unpacked unpack_lzma(Bytes in, Compression kind, std::size_t limit) {
  const std::string_view name = kind == Compression::Xz ? "xz" : "lzma";
  constexpr std::uint64_t kMemoryLimit = std::uint64_t{256} << 20;
  lzma_stream stream = LZMA_STREAM_INIT;
  const lzma_ret started = kind == Compression::Xz ? lzma_stream_decoder(&stream, kMemoryLimit, 0)
                                                   : lzma_alone_decoder(&stream, kMemoryLimit);
  if (started != LZMA_OK) return Error{"out of memory for unpacking the kernel"};
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> owner(&stream, lzma_end);
  stream.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
  stream.avail_in = in.size();
  Output out(limit);
  for (;;) {
    if (out.free_size() == 0 && !out.grow()) return too_long(name, limit);
    const std::size_t room = out.free_size();
    stream.next_out = reinterpret_cast<std::uint8_t*>(out.free_start());
    stream.avail_out = room;
    const lzma_ret status = lzma_code(&stream, LZMA_RUN);
    out.produced(room - stream.avail_out);
    if (status == LZMA_STREAM_END) return out.take();
    if (status == LZMA_MEMLIMIT_ERROR) return damaged(name, "its dictionary is too large");
    if (status != LZMA_OK) return damaged(name, status == LZMA_BUF_ERROR ? "it ends early" : "bad data");
  }
}

/// The legacy frame that Linux's `lz4 -l` makes: a magic number, then blocks of at most 8 MiB unpacked, each after its
/// length.
Unpacked unpack_lz4(Bytes in, std::size_t limit) {
  constexpr std::size_t kBlock = std::size_t{8} << 20;
  constexpr std::size_t kMostExpansion = 255;
  constexpr std::uint32_t kMagic = 0x184C2102;
  std::vector<std::byte> out;
  in = in.subspan(sizeof kMagic);
  while (in.size() >= sizeof(std::uint32_t)) {
    const auto length = load_le<std::uint32_t>(in.data());
    // The unpacked size that Linux appends ends the list; it looks like one more length.
    if (in.size() == sizeof length && !out.empty()) break;
    in = in.subspan(sizeof length);
    if (length == kMagic) continue;
    if (length == 0 || length > in.size()) return damaged("lz4", "it ends early");
    const std::size_t start = out.size();
    const std::size_t room = std::min(kBlock, length * kMostExpansion);
    out.resize(start + room);
    const int got =
        LZ4_decompress_safe(reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(out.data() + start),
                            static_cast<int>(length), static_cast<int>(room));
    if (got < 0) return damaged("lz4", "bad data");
    out.resize(start + static_cast<std::size_t>(got));
    if (out.size() > limit) return too_long("lz4", limit);
    in = in.subspan(length);
  }
  if (out.empty()) return damaged("lz4", "it ends early");
  return out;
}

Unpacked unpack_zstd(Bytes in, std::size_t limit) {
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(), ZSTD_freeDStream);
  if (!stream) return Error{"out of memory for unpacking the kernel"};
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, 27);
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  Output out(limit);
  for (;;) {
    if (out.free_size() == 0 && !out.grow()) return too_long("zstd", limit);
    ZSTD_outBuffer output{out.free_start(), out.free_size(), 0};
    const std::size_t status = ZSTD_decompressStream(stream.get(), &output, &input);
    out.produced(output.pos);
    if (ZSTD_isError(status) != 0) return damaged("zstd", ZSTD_getErrorName(status));
    if (status == 0) return out.take();
    if (input.pos == input.size && output.pos < output.size) return damaged("zstd", "it ends early");
  }
}

}  // namespace

Compression identify_compression(Bytes payload) {
  for (const Magic& magic : kMagics) {
    if (payload.size() >= magic.bytes.size() &&
        std::memcmp(payload.data(), magic.bytes.data(), magic.bytes.size()) == 0) {
      return magic.compression;
    }
  }
  return Compression::Unknown;
}

Unpacked unpack_payload(Bytes payload, std::size_t limit) {
  switch (const Compression compression = identify_compression(payload)) {
    case Compression::None:
      if (payload.size() > limit) return too_long("none", limit);
      return std::vector<std::byte>(payload.begin(), payload.end());
    case Compression::Gzip:
      return unpack_gzip(payload, limit);
    case Compression::Xz:
    case Compression::Lzma:
      return unpack_lzma(payload, compression, limit);
    case Compression::Lz4:
      return unpack_lz4(payload, limit);
    case Compression::Zstd:
      return unpack_zstd(payload, limit);
    case Compression::Unknown:
      break;
  }
  return Error{"the kernel's compression is not known: gzip, xz, lzma, lz4 and zstd are"};
}

}  // namespace doppel::boot
