#pragma once

#include <cstdint>

#include "base/bits.h"

/// The numbers of the qcow2 format (QEMU's docs/interop/qcow2.txt), all of them big-endian.
namespace doppel::storage::qcow2 {

inline constexpr std::uint32_t kMagic = 0x514649FB;  ///< "QFI\xfb"
inline constexpr std::uint32_t kHeaderLengthV2 = 72;
inline constexpr std::uint32_t kHeaderLengthV3 = 104;
inline constexpr std::uint32_t kHeaderLengthOurs = 112;  ///< with compression_type

inline constexpr unsigned kMinClusterBits = 9;
inline constexpr unsigned kMaxClusterBits = 21;
inline constexpr unsigned kMinExtendedClusterBits = 14;
inline constexpr std::uint64_t kMaxL1Bytes = 32U << 20;            ///< QEMU's limit
inline constexpr std::uint64_t kMaxRefcountTableBytes = 8U << 20;  ///< QEMU's limit
inline constexpr std::uint32_t kMaxSnapshots = 65536;
inline constexpr std::uint64_t kMaxSnapshotTableBytes = 64U << 20;
inline constexpr std::uint32_t kMaxBackingName = 1023;

// incompatible_features
inline constexpr std::uint64_t kDirty = 1U << 0;
inline constexpr std::uint64_t kCorrupt = 1U << 1;
inline constexpr std::uint64_t kExternalData = 1U << 2;
inline constexpr std::uint64_t kCompressionType = 1U << 3;
inline constexpr std::uint64_t kExtendedL2 = 1U << 4;
// compatible_features
inline constexpr std::uint64_t kLazyRefcounts = 1U << 0;
// autoclear_features
inline constexpr std::uint64_t kBitmaps = 1U << 0;
inline constexpr std::uint64_t kRawExternal = 1U << 1;

// header extensions
inline constexpr std::uint32_t kExtensionEnd = 0;
inline constexpr std::uint32_t kExtensionBackingFormat = 0xE2792ACA;
inline constexpr std::uint32_t kExtensionFeatureNames = 0x6803F857;
inline constexpr std::uint32_t kExtensionBitmaps = 0x23852875;
inline constexpr std::uint32_t kExtensionEncryption = 0x0537BE77;
inline constexpr std::uint32_t kExtensionExternalData = 0x44415441;

// L1 and L2 entries
inline constexpr std::uint64_t kOffsetMask = 0x00FFFFFFFFFFFE00;
inline constexpr std::uint64_t kCopied = std::uint64_t{1} << 63;  ///< refcount is exactly one
inline constexpr std::uint64_t kCompressed = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kZero = 1;  ///< version 3, standard entries
inline constexpr unsigned kSubclusters = 32;
/// Where no image may reach: offsets have 56 bits.
inline constexpr std::uint64_t kMaxFileOffset = std::uint64_t{1} << 56;

enum class CompressionType : std::uint8_t { Deflate = 0, Zstd = 1 };

}  // namespace doppel::storage::qcow2
