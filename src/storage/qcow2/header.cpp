#include "storage/qcow2/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/system_error.h"

namespace doppel::storage::qcow2 {
namespace {

struct FeatureName {
  std::uint8_t type;  ///< 0 incompatible, 1 compatible, 2 autoclear
  std::uint8_t bit;
  std::string_view name;
};

constexpr std::array kFeatureNames{
    FeatureName{0, 0, "dirty bit"},
    FeatureName{0, 1, "corrupt bit"},
    FeatureName{0, 2, "external data file"},
    FeatureName{0, 3, "compression type"},
    FeatureName{0, 4, "extended L2 entries"},
    FeatureName{1, 0, "lazy refcounts"},
    FeatureName{2, 0, "bitmaps"},
    FeatureName{2, 1, "raw external data"},
};
constexpr std::size_t kFeatureNameLength = 46;
constexpr std::size_t kFeatureEntryLength = 48;

class Parser {
 public:
  Parser(File& file, Header& header) : file_(file), header_(header) {}

  Result<void> parse() {
    std::array<std::byte, kHeaderLengthOurs> bytes{};
    if (auto read = this->read(0, bytes); !read) return read;
    if (load_be<std::uint32_t>(&bytes[0]) != kMagic) return bad("has no qcow2 header");
    header_.version = load_be<std::uint32_t>(&bytes[4]);
    if (header_.version != 2 && header_.version != 3) {
      return bad(fmt::format("is qcow2 of version {}; versions 2 and 3 are supported", header_.version));
    }
    backing_offset_ = load_be<std::uint64_t>(&bytes[8]);
    backing_size_ = load_be<std::uint32_t>(&bytes[16]);
    header_.cluster_bits = load_be<std::uint32_t>(&bytes[20]);
    header_.size = load_be<std::uint64_t>(&bytes[24]);
    header_.crypt_method = load_be<std::uint32_t>(&bytes[32]);
    header_.l1_size = load_be<std::uint32_t>(&bytes[36]);
    header_.l1_table_offset = load_be<std::uint64_t>(&bytes[40]);
    header_.refcount_table_offset = load_be<std::uint64_t>(&bytes[48]);
    header_.refcount_table_clusters = load_be<std::uint32_t>(&bytes[56]);
    header_.nb_snapshots = load_be<std::uint32_t>(&bytes[60]);
    header_.snapshots_offset = load_be<std::uint64_t>(&bytes[64]);
    header_.header_length = kHeaderLengthV2;
    if (header_.cluster_bits < kMinClusterBits || header_.cluster_bits > kMaxClusterBits) {
      return bad(fmt::format("has clusters of 2^{} bytes; 512 bytes to 2 MiB are possible", header_.cluster_bits));
    }
    if (header_.version == 3) {
      if (auto parsed = parse_version_3(bytes); !parsed) return parsed;
    }
    if (auto parsed = parse_extensions(); !parsed) return parsed;
    if (auto checked = check_features(); !checked) return checked;
    if (auto parsed = parse_backing(); !parsed) return parsed;
    return check_tables();
  }

 private:
  Error bad(const std::string& what) const { return Error{file_.name() + " " + what}; }

  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const {
    if (const int error = file_.read_bytes(offset, into); error != 0) {
      return system_error("cannot read " + file_.name(), error);
    }
    return {};
  }

  Result<void> parse_version_3(const std::array<std::byte, kHeaderLengthOurs>& bytes) {
    header_.incompatible_features = load_be<std::uint64_t>(&bytes[72]);
    header_.compatible_features = load_be<std::uint64_t>(&bytes[80]);
    header_.autoclear_features = load_be<std::uint64_t>(&bytes[88]);
    header_.refcount_order = load_be<std::uint32_t>(&bytes[96]);
    header_.header_length = load_be<std::uint32_t>(&bytes[100]);
    if (header_.header_length < kHeaderLengthV3 || header_.header_length > header_.cluster_size()) {
      return bad(fmt::format("has a header of impossible length {}", header_.header_length));
    }
    if (header_.refcount_order > 6) {
      return bad(fmt::format("has refcounts of 2^{} bits; 1 to 64 are possible", header_.refcount_order));
    }
    const std::uint8_t compression =
        header_.header_length > kHeaderLengthV3 ? std::to_integer<std::uint8_t>(bytes[104]) : std::uint8_t{0};
    if ((header_.incompatible_features & kCompressionType) != 0 ? compression == 0 || compression > 1
                                                                : compression != 0) {
      return bad(fmt::format("uses compression type {}; deflate and zstd are supported", compression));
    }
    header_.compression_type = static_cast<CompressionType>(compression);
    return {};
  }

  Result<void> parse_extensions() {
    // The area ends at the backing file's name or the first cluster's end, whichever comes first.
    std::uint64_t end = header_.cluster_size();
    if (backing_offset_ != 0) end = std::min(end, backing_offset_);
    std::uint64_t at = header_.header_length;
    while (at + 8 <= end) {
      std::array<std::byte, 8> head{};
      if (auto read = this->read(at, head); !read) return read;
      at += 8;
      const auto type = load_be<std::uint32_t>(&head[0]);
      const auto length = load_be<std::uint32_t>(&head[4]);
      if (type == kExtensionEnd) return {};
      if (length > end - at)
        return bad(fmt::format("has a header extension ({:#x}) that runs out of the header", type));
      std::vector<std::byte> data(length);
      if (auto read = this->read(at, data); !read) return read;
      if (auto taken = take_extension(type, std::move(data)); !taken) return taken;
      at += (std::uint64_t{length} + 7) / 8 * 8;
    }
    return {};
  }

  Result<void> take_extension(std::uint32_t type, std::vector<std::byte> data) {
    switch (type) {
      case kExtensionBackingFormat:
        header_.backing_format = std::string(reinterpret_cast<const char*>(data.data()), data.size());
        return {};
      case kExtensionFeatureNames:
        feature_names_ = std::move(data);
        return {};
      case kExtensionBitmaps: {
        if (data.size() != 24) return bad("has a bitmaps extension of the wrong length");
        header_.bitmaps = {load_be<std::uint32_t>(&data[0]), load_be<std::uint64_t>(&data[8]),
                           load_be<std::uint64_t>(&data[16])};
        return {};
      }
      case kExtensionEncryption:
        return bad("is encrypted, which is not supported");
      case kExtensionExternalData:
        return bad("keeps its data in an external file, which is not supported");
      default:
        header_.unknown_extensions.push_back({type, std::move(data)});
        return {};
    }
  }

  /// What the image itself calls incompatible feature `bit`.
  std::string feature_name(unsigned bit) const {
    for (std::size_t at = 0; at + kFeatureEntryLength <= feature_names_.size(); at += kFeatureEntryLength) {
      if (feature_names_[at] != std::byte{0} || std::to_integer<unsigned>(feature_names_[at + 1]) != bit) continue;
      std::string name(reinterpret_cast<const char*>(&feature_names_[at + 2]), kFeatureNameLength);
      name.resize(std::min(name.size(), name.find('\0')));
      std::erase_if(name, [](char c) { return c < ' ' || c > '~'; });
      if (!name.empty()) return fmt::format("\"{}\"", name);
    }
    return fmt::format("of bit {}", bit);
  }

  Result<void> check_features() const {
    if (header_.crypt_method != 0) return bad("is encrypted, which is not supported");
    if ((header_.incompatible_features & kExternalData) != 0) {
      return bad("keeps its data in an external file, which is not supported");
    }
    constexpr std::uint64_t kKnown = kDirty | kCorrupt | kCompressionType | kExtendedL2;
    const std::uint64_t unknown = header_.incompatible_features & ~kKnown;
    if (unknown != 0) {
      return bad("uses the feature " + feature_name(static_cast<unsigned>(std::countr_zero(unknown))) +
                 ", which is not supported");
    }
    if (header_.extended_l2() && header_.cluster_bits < kMinExtendedClusterBits) {
      return bad("has extended L2 entries with clusters of less than 16 KiB");
    }
    return {};
  }

  Result<void> parse_backing() {
    if (backing_offset_ == 0) return {};
    if (backing_size_ > kMaxBackingName || backing_offset_ > header_.cluster_size() ||
        backing_size_ > header_.cluster_size() - backing_offset_) {
      return bad("has a backing file name that is too long or out of place");
    }
    header_.backing_file_offset = backing_offset_;
    std::vector<std::byte> name(backing_size_);
    if (auto read = this->read(backing_offset_, name); !read) return read;
    header_.backing_file.assign(reinterpret_cast<const char*>(name.data()), name.size());
    if (header_.backing_file.find('\0') != std::string::npos) return bad("has a backing file name with a zero byte");
    return {};
  }

  Result<void> check_table(const char* what, std::uint64_t offset, std::uint64_t bytes, std::uint64_t limit) const {
    if (bytes > limit) return bad(fmt::format("has a {} of {} bytes; {} are possible", what, bytes, limit));
    const bool inside = offset <= file_.size() && bytes <= file_.size() - offset;
    if (offset % header_.cluster_size() != 0 || !inside) return bad(fmt::format("has a {} out of place", what));
    return {};
  }

  Result<void> check_tables() const {
    if (header_.size > (std::uint64_t{1} << 62)) return bad("is larger than any disk");
    if (header_.l1_size < header_.l1_entries_for(header_.size)) return bad("has an L1 table too small for its disk");
    if (auto checked =
            check_table("L1 table", header_.l1_table_offset, header_.l1_size * std::uint64_t{8}, kMaxL1Bytes);
        !checked) {
      return checked;
    }
    if (header_.refcount_table_clusters == 0) return bad("has no refcount table");
    if (header_.nb_snapshots > kMaxSnapshots) return bad(fmt::format("has {} snapshots", header_.nb_snapshots));
    if (header_.nb_snapshots != 0) {
      if (auto checked = check_table("snapshot table", header_.snapshots_offset, 0, 0); !checked) return checked;
    }
    return check_table("refcount table", header_.refcount_table_offset,
                       header_.refcount_table_clusters * header_.cluster_size(), kMaxRefcountTableBytes);
  }

  File& file_;
  Header& header_;
  std::uint64_t backing_offset_ = 0;
  std::uint32_t backing_size_ = 0;
  std::vector<std::byte> feature_names_;
};

void append_extension(std::vector<std::byte>& out, std::uint32_t type, std::span<const std::byte> data) {
  const std::size_t at = out.size();
  out.resize(at + 8 + (data.size() + 7) / 8 * 8);
  store_be(&out[at], type);
  store_be(&out[at + 4], static_cast<std::uint32_t>(data.size()));
  if (!data.empty()) std::memcpy(&out[at + 8], data.data(), data.size());
}

std::vector<std::byte> feature_name_table() {
  std::vector<std::byte> table(kFeatureNames.size() * kFeatureEntryLength);
  std::size_t at = 0;
  for (const FeatureName& feature : kFeatureNames) {
    table[at] = std::byte{feature.type};
    table[at + 1] = std::byte{feature.bit};
    std::memcpy(&table[at + 2], feature.name.data(), feature.name.size());
    at += kFeatureEntryLength;
  }
  return table;
}

}  // namespace

std::uint64_t Header::l1_entries_for(std::uint64_t bytes) const {
  const std::uint64_t covered = l2_entries() << cluster_bits;
  return bytes / covered + (bytes % covered != 0 ? 1 : 0);
}

Result<Header> parse_header(File& file) {
  Header header;
  if (auto parsed = Parser(file, header).parse(); !parsed) return parsed.error();
  return header;
}

Result<std::vector<std::byte>> serialise_header(const Header& header, std::uint64_t name_at) {
  std::vector<std::byte> out(header.version == 2 ? kHeaderLengthV2 : kHeaderLengthOurs);
  store_be(&out[0], kMagic);
  store_be(&out[4], header.version);
  store_be(&out[20], header.cluster_bits);
  store_be(&out[24], header.size);
  store_be(&out[32], header.crypt_method);
  store_be(&out[36], header.l1_size);
  store_be(&out[40], header.l1_table_offset);
  store_be(&out[48], header.refcount_table_offset);
  store_be(&out[56], header.refcount_table_clusters);
  store_be(&out[60], header.nb_snapshots);
  store_be(&out[64], header.snapshots_offset);
  if (header.version == 3) {
    store_be(&out[72], header.incompatible_features);
    store_be(&out[80], header.compatible_features);
    store_be(&out[88], header.autoclear_features);
    store_be(&out[96], header.refcount_order);
    store_be(&out[100], kHeaderLengthOurs);
    out[104] = static_cast<std::byte>(header.compression_type);
  }
  if (header.backing_format) {
    append_extension(out, kExtensionBackingFormat, std::as_bytes(std::span(*header.backing_format)));
  }
  for (const Header::Extension& extension : header.unknown_extensions) {
    append_extension(out, extension.type, extension.data);
  }
  if (header.bitmaps) {
    std::array<std::byte, 24> data{};
    store_be(&data[0], header.bitmaps->count);
    store_be(&data[8], header.bitmaps->directory_size);
    store_be(&data[16], header.bitmaps->directory_offset);
    append_extension(out, kExtensionBitmaps, data);
  }
  // Names for those who do not know the bits; where room is scarce, they are left out.
  const std::vector<std::byte> names = feature_name_table();
  if (header.version == 3 && name_at == 0 &&
      out.size() + names.size() + 16 + header.backing_file.size() <= header.cluster_size()) {
    append_extension(out, kExtensionFeatureNames, names);
  }
  append_extension(out, kExtensionEnd, {});
  if (!header.backing_file.empty()) {
    if (header.backing_file.size() > kMaxBackingName) {
      return Error{"the name of the backing file is longer than 1023 bytes; use a shorter path"};
    }
    if (out.size() < name_at) out.resize(name_at);
    store_be(&out[8], static_cast<std::uint64_t>(out.size()));
    store_be(&out[16], static_cast<std::uint32_t>(header.backing_file.size()));
    const auto name = std::as_bytes(std::span(header.backing_file));
    out.insert(out.end(), name.begin(), name.end());
  }
  if (out.size() > header.cluster_size()) {
    return Error{"the header does not fit into one cluster; use larger clusters or a shorter backing file name"};
  }
  return out;
}

}  // namespace doppel::storage::qcow2
