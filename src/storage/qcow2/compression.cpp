#include "storage/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>

namespace doppel::storage::qcow2 {
namespace {

constexpr int kWindowBits = -12;  ///< raw deflate, with the window that the format's other programs unpack with
constexpr int kMaxWindowBits = -15;

bool inflate_all(std::span<const std::byte> in, std::span<std::byte> out) {
  z_stream stream{};
  if (::inflateInit2(&stream, kMaxWindowBits) != Z_OK) return false;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  // Z_BUF_ERROR: the output is full and the stream has not said that it ends there.
  return (status == Z_STREAM_END || status == Z_BUF_ERROR) && stream.avail_out == 0;
}

bool unzstd_all(std::span<const std::byte> in, std::span<std::byte> out) {
  const std::unique_ptr<ZSTD_DStream, decltype(&::ZSTD_freeDStream)> stream(::ZSTD_createDStream(),
                                                                            &::ZSTD_freeDStream);
  if (!stream) return false;
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos < output.size) {
    const std::size_t before_in = input.pos;
    const std::size_t before_out = output.pos;
    if (::ZSTD_isError(::ZSTD_decompressStream(stream.get(), &output, &input)) != 0) return false;
    if (input.pos == before_in && output.pos == before_out) return false;
  }
  return true;
}

}  // namespace

bool decompress(CompressionType type, std::span<const std::byte> in, std::span<std::byte> out) {
  return type == CompressionType::Zstd ? unzstd_all(in, out) : inflate_all(in, out);
}

std::vector<std::byte> compress(CompressionType type, std::span<const std::byte> in) {
  std::vector<std::byte> out(in.size());
  std::size_t size = 0;
  if (type == CompressionType::Zstd) {
    size = ::ZSTD_compress(out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
    if (::ZSTD_isError(size) != 0) return {};
  } else {
    z_stream stream{};
    if (::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
      return {};
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = ::deflate(&stream, Z_FINISH);
    size = stream.total_out;
    ::deflateEnd(&stream);
    if (status != Z_STREAM_END) return {};
  }
  if (size >= in.size()) return {};
  out.resize(size);
  return out;
}

UnpackedClusters::Cluster UnpackedClusters::find(std::uint64_t word) {
  const std::lock_guard guard(mutex_);
  const auto found = std::ranges::find(clusters_, word, &std::pair<std::uint64_t, Cluster>::first);
  if (found == clusters_.end()) return nullptr;
  std::rotate(found, found + 1, clusters_.end());
  return clusters_.back().second;
}

void UnpackedClusters::keep(std::uint64_t word, Cluster cluster) {
  const std::lock_guard guard(mutex_);
  if (clusters_.size() >= limit_) clusters_.erase(clusters_.begin());
  clusters_.emplace_back(word, std::move(cluster));
}

void UnpackedClusters::clear() {
  const std::lock_guard guard(mutex_);
  clusters_.clear();
}

}  // namespace doppel::storage::qcow2
