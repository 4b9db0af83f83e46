#include "boot/payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/kernel_images.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using testing::HasSubstr;

Bytes gzip(const Bytes& in) {
  Bytes out(in.size() + 1024);
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// As the kernel's build does it: with the x86 branch filter.
Bytes xz(const Bytes& in) {
  lzma_options_lzma lzma2;
  lzma_lzma_preset(&lzma2, 1);
  std::array<lzma_filter, 3> filters{
      {{LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &lzma2}, {LZMA_VLI_UNKNOWN, nullptr}}};
  Bytes out(in.size() + 1024);
  std::size_t length = 0;
  EXPECT_EQ(lzma_stream_buffer_encode(filters.data(), LZMA_CHECK_CRC32, nullptr,
                                      reinterpret_cast<const std::uint8_t*>(in.data()), in.size(),
                                      reinterpret_cast<std::uint8_t*>(out.data()), &length, out.size()),
            LZMA_OK);
  out.resize(length);
  return out;
}

Bytes lzma(const Bytes& in) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 1);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_alone_encoder(&stream, &options), LZMA_OK);
  Bytes out(in.size() + 1024);
  stream.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
  stream.avail_in = in.size();
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
  out.resize(stream.total_out);
  lzma_end(&stream);
  return out;
}

/// The legacy frame, in two blocks where the input is longer than one.
Bytes lz4(const Bytes& in) {
  constexpr std::size_t kBlock = std::size_t{8} << 20;
  Bytes out = test::bytes_of("\x02\x21\x4C\x18");
  for (std::size_t at = 0; at < in.size(); at += kBlock) {
    const int length = static_cast<int>(std::min(kBlock, in.size() - at));
    Bytes block(static_cast<std::size_t>(LZ4_compressBound(length)));
    const int packed =
        LZ4_compress_default(reinterpret_cast<const char*>(in.data() + at), reinterpret_cast<char*>(block.data()),
                             length, static_cast<int>(block.size()));
    test::put(out, out.size(), static_cast<std::uint32_t>(packed));
    out.insert(out.end(), block.begin(), block.begin() + packed);
  }
  return out;
}

Bytes zstd(const Bytes& in) {
  Bytes out(ZSTD_compressBound(in.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 1));
  return out;
}

/// Enough for what damaged input is made from, and quick to allocate thousands of times.
constexpr std::size_t kSmallLimit = 1 << 14;

struct Format {
  const char* name;
  Compression compression;
  Bytes (*compress)(const Bytes&);
};

class Payload : public testing::TestWithParam<Format> {
 protected:
  static Bytes compressible(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * i >> 9);
    return bytes;
  }
};

TEST_P(Payload, IsIdentifiedAndUnpacked) {
  const Bytes original = compressible(300'000);
  const Bytes packed = GetParam().compress(original);
  EXPECT_LT(packed.size(), original.size());
  EXPECT_EQ(identify_compression(packed), GetParam().compression);
  const auto unpacked = unpack_payload(packed);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(*unpacked, original);
}

TEST_P(Payload, IgnoresTheSizeThatLinuxAppends) {
  const Bytes original = compressible(5000);
  Bytes packed = GetParam().compress(original);
  test::put(packed, packed.size(), std::uint32_t{5000});
  const auto unpacked = unpack_payload(packed);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(*unpacked, original);
}

TEST_P(Payload, GrowsPastTheFirstBuffer) {
  const Bytes original(9 << 20, std::byte{0x5A});
  const auto unpacked = unpack_payload(GetParam().compress(original));
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_TRUE(*unpacked == original);
}

TEST_P(Payload, StopsAtTheLimit) {
  const Bytes packed = GetParam().compress(Bytes(3 << 20));
  const auto unpacked = unpack_payload(packed, 2 << 20);
  ASSERT_FALSE(unpacked);
  EXPECT_THAT(unpacked.error().message, HasSubstr("more than 2 MiB"));
}

TEST_P(Payload, EveryTruncationIsAnError) {
  const Bytes original = compressible(3000);
  const Bytes packed = GetParam().compress(original);
  for (std::size_t length = 0; length < packed.size(); ++length) {
    const auto unpacked = unpack_payload(std::span{packed}.first(length), kSmallLimit);
    ASSERT_FALSE(unpacked && *unpacked == original) << length;
  }
}

TEST_P(Payload, NoDamageCrashes) {
  const Bytes packed = GetParam().compress(compressible(1000));
  test::damage(packed, packed.size(), [](std::span<const std::byte> file) {
    const auto unpacked = unpack_payload(file, kSmallLimit);
    if (!unpacked) {
      EXPECT_FALSE(unpacked.error().message.empty());
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Formats, Payload,
                         testing::Values(Format{"gzip", Compression::Gzip, gzip}, Format{"xz", Compression::Xz, xz},
                                         Format{"lzma", Compression::Lzma, lzma}, Format{"lz4", Compression::Lz4, lz4},
                                         Format{"zstd", Compression::Zstd, zstd}),
                         [](const auto& info) { return info.param.name; });

TEST(PayloadFormats, UnknownOnesAreLeftToTheKernel) {
  EXPECT_EQ(identify_compression({}), Compression::Unknown);
  EXPECT_EQ(identify_compression(test::bytes_of("BZh9")), Compression::Unknown);
  EXPECT_EQ(identify_compression(test::Elf{}.build()), Compression::None);
  EXPECT_EQ(*unpack_payload(test::Elf{}.build()), test::Elf{}.build());
  EXPECT_THAT(unpack_payload(test::bytes_of("BZh9")).error().message, HasSubstr("not known"));
}

}  // namespace
}  // namespace doppel::boot
