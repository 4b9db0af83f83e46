#include "storage/qcow2/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "base/system_error.h"
#include "storage/qcow2/rebuild.h"
#include "storage/qcow2/snapshots.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::size_t kMaxMessages = 100;

class Checker {
 public:
  Checker(Qcow2Image& image, Repair repair, const Progress& progress)
      : image_(image), file_(image.file()), header_(image.header()), repair_(repair), progress_(progress) {}

  Result<CheckResult> run() {
    auto counts = ReferenceCounts::make(header_.clusters_for(file_.size()));
    if (!counts) return Error{file_.name() + ": " + counts.error().message};
    counts_ = std::move(*counts);
    result_.total_clusters = header_.clusters_for(header_.size);
    count_structures();
    compare();
    if (repair_ != Repair::None) {
      if (auto repaired = repair_refcounts(); !repaired) return repaired.error();
    }
    check_copied_flags();
    if (repair_ != Repair::None) {
      if (auto reloaded = image_.reload(); !reloaded) return reloaded.error();
    }
    return result_;
  }

 private:
  template <class... Args>
  void corrupt(fmt::format_string<Args...> format, Args&&... args) {
    ++result_.corruptions;
    say(fmt::format(format, std::forward<Args>(args)...));
  }
  void say(std::string message) {
    if (result_.messages.size() < kMaxMessages) result_.messages.push_back(std::move(message));
  }

  bool read(std::uint64_t offset, std::span<std::byte> into) {
    if (file_.read_bytes(offset, into) == 0) return true;
    ++result_.check_errors;
    say(fmt::format("cannot read {} bytes at {:#x}", into.size(), offset));
    return false;
  }

  /// Counts a reference to each cluster that [offset, offset + length) touches.
  bool refer(const char* what, std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return true;
    const std::uint64_t last = (offset + length - 1) >> header_.cluster_bits;
    if (offset + length < offset || last >= counts_.size()) {
      corrupt("{} at {:#x} lies past the end of the file", what, offset);
      return false;
    }
    for (std::uint64_t cluster = offset >> header_.cluster_bits; cluster <= last; ++cluster) counts_.increment(cluster);
    return true;
  }

  void count_structures() {
    refer("the header", 0, header_.cluster_size());
    walk_l1(header_.l1_table_offset, header_.l1_size, true);
    if (header_.nb_snapshots != 0) count_snapshots();
    if (header_.bitmaps && (header_.autoclear_features & kBitmaps) != 0) count_bitmaps(*header_.bitmaps);
    count_refcount_structures();
  }

  void count_snapshots() {
    auto snapshots = read_snapshots(file_, header_);
    if (!snapshots) {
      corrupt("{}", snapshots.error().message);
      return;
    }
    std::uint64_t table_bytes = 0;
    for (const Snapshot& snapshot : *snapshots) {
      table_bytes += snapshot.table_bytes;
      walk_l1(snapshot.l1_table_offset, snapshot.l1_size, false);
    }
    refer("the snapshot table", header_.snapshots_offset, table_bytes);
  }

  void count_bitmaps(const BitmapsExtension& bitmaps) {
    constexpr std::uint64_t kMaxDirectory = 64U << 20;
    constexpr std::uint64_t kEntryHead = 24;
    if (bitmaps.directory_size > kMaxDirectory ||
        !refer("the bitmap directory", bitmaps.directory_offset, bitmaps.directory_size)) {
      return;
    }
    std::vector<std::byte> directory(bitmaps.directory_size);
    if (!read(bitmaps.directory_offset, directory)) return;
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i < bitmaps.count; ++i) {
      if (at + kEntryHead > directory.size()) {
        corrupt("the bitmap directory ends before its last entry");
        return;
      }
      const auto table_offset = load_be<std::uint64_t>(&directory[at]);
      const auto table_size = load_be<std::uint32_t>(&directory[at + 8]);
      const auto name_size = load_be<std::uint16_t>(&directory[at + 18]);
      const auto extra_size = load_be<std::uint32_t>(&directory[at + 20]);
      at += (kEntryHead + name_size + std::uint64_t{extra_size} + 7) / 8 * 8;
      if (!refer("a bitmap table", table_offset, table_size * std::uint64_t{8})) continue;
      std::vector<std::byte> table(table_size * std::uint64_t{8});
      if (!read(table_offset, table)) continue;
      for (std::uint32_t n = 0; n < table_size; ++n) {
        const std::uint64_t data = load_be<std::uint64_t>(&table[n * std::size_t{8}]) & kOffsetMask;
        if (data != 0) refer("bitmap data", data, header_.cluster_size());
      }
    }
  }

  /// Reads an L2 table; empty if it is not where one can be.
  std::vector<std::byte> read_l2(std::uint64_t entry, std::uint64_t index) {
    const std::uint64_t table = entry & kOffsetMask;
    if (table % header_.cluster_size() != 0) {
      corrupt("L1 entry {} refers to {:#x}, which is not a cluster", index, table);
      return {};
    }
    if (!refer("an L2 table", table, header_.cluster_size())) return {};
    std::vector<std::byte> bytes(header_.cluster_size());
    if (!read(table, bytes)) return {};
    return bytes;
  }

  L2Entry l2_entry(const std::vector<std::byte>& table, std::uint64_t index) const {
    const std::uint64_t at = index * header_.l2_entry_size();
    return {load_be<std::uint64_t>(&table[at]), header_.extended_l2() ? load_be<std::uint64_t>(&table[at + 8]) : 0};
  }

  void walk_l1(std::uint64_t offset, std::uint32_t size, bool active) {
    if (size == 0) return;
    std::vector<std::byte> l1(size * std::uint64_t{8});
    if (!refer("an L1 table", offset, l1.size()) || !read(offset, l1)) return;
    for (std::uint32_t i = 0; i < size; ++i) {
      if (active && progress_) progress_(i, size);
      const auto entry = load_be<std::uint64_t>(&l1[i * std::size_t{8}]);
      if ((entry & kOffsetMask) == 0) continue;
      const std::vector<std::byte> l2 = read_l2(entry, i);
      for (std::uint64_t n = 0; !l2.empty() && n < header_.l2_entries(); ++n) count_cluster(l2_entry(l2, n), active);
    }
  }

  void count_cluster(const L2Entry& entry, bool active) {
    if (is_compressed(entry)) {
      const CompressedPlace place = compressed_place(header_, entry.word);
      if ((entry.word & kCopied) != 0) corrupt("a compressed cluster at {:#x} is marked as copied", place.offset);
      // The last sector may reach past the end of the file.
      const std::uint64_t end = std::min(place.offset + place.size, counts_.size() << header_.cluster_bits);
      refer("compressed data", place.offset, std::max(end, place.offset + 1) - place.offset);
      if (!active) return;
      ++result_.allocated_clusters;
      ++result_.compressed_clusters;
      ++result_.fragmented_clusters;
      return;
    }
    const std::uint64_t host = host_offset(entry);
    if (is_broken(header_, entry)) {
      corrupt("an L2 entry contradicts itself: {:#x} {:#x}", entry.word, entry.bitmap);
      return;
    }
    if (host == 0) return;
    refer("a data cluster", host, header_.cluster_size());
    if (!active) return;
    ++result_.allocated_clusters;
    if (next_contiguous_ != 0 && host != next_contiguous_) ++result_.fragmented_clusters;
    next_contiguous_ = host + header_.cluster_size();
  }

  void count_refcount_structures() {
    refer("the refcount table", header_.refcount_table_offset,
          header_.refcount_table_clusters * header_.cluster_size());
    const auto& table = image_.refcounts().table();
    for (std::uint64_t i = 0; i < table.size(); ++i) {
      if (table[i] == 0) continue;
      const std::uint64_t cluster = table[i] >> header_.cluster_bits;
      if (table[i] % header_.cluster_size() != 0 || cluster >= counts_.size()) {
        corrupt("refcount block {} at {:#x} is out of place", i, table[i]);
        structure_broken_ = true;
        continue;
      }
      counts_.increment(cluster);
      if (counts_.get(cluster) != 1) {
        corrupt("refcount block {} at {:#x} shares its cluster with something else", i, table[i]);
        structure_broken_ = true;
      }
    }
  }

  /// Calls `act(cluster, stored, counted)` for each cluster where the two differ.
  template <class Act>
  void for_each_difference(Act&& act) {
    const auto& table = image_.refcounts().table();
    const std::uint64_t per_block = header_.refcounts_per_block();
    const std::uint64_t blocks = std::max<std::uint64_t>(table.size(), (counts_.size() + per_block - 1) / per_block);
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const bool present = block < table.size() && table[block] != 0;
      const std::uint64_t begin = block * per_block;
      if (!present && begin >= counts_.size()) continue;
      for (std::uint64_t cluster = begin; cluster < begin + per_block; ++cluster) {
        const std::uint64_t counted = counts_.get(cluster);
        std::uint64_t stored = 0;
        if (present && image_.refcounts().get(cluster, stored) != 0) {
          stored = 0;
          structure_broken_ = true;
        }
        if (stored != 0 && cluster < counts_.size()) last_used_ = std::max(last_used_, cluster);
        if (stored != counted) act(cluster, stored, counted);
        if (!present && counted != 0) structure_broken_ = true;
      }
    }
  }

  void compare() {
    for_each_difference([this](std::uint64_t cluster, std::uint64_t stored, std::uint64_t counted) {
      // Behind the file's end there is no space to waste.
      if (cluster >= counts_.size()) return;
      if (stored > counted) {
        ++result_.leaks;
        say(fmt::format("cluster {} is leaked: refcount {}, references {}", cluster, stored, counted));
      } else {
        corrupt("cluster {} has refcount {} and {} references", cluster, stored, counted);
      }
    });
    result_.image_end_offset = (last_used_ + 1) << header_.cluster_bits;
  }

  Result<void> repair_refcounts() {
    if (structure_broken_ && repair_ == Repair::All) {
      // What refers to the old structure is no reference any more.
      forget_refcount_structures();
      if (auto rebuilt = rebuild_refcounts(file_, header_, counts_); !rebuilt) return rebuilt;
      result_.corruptions_fixed = result_.corruptions;
      result_.leaks_fixed = result_.leaks;
      if (auto reloaded = image_.reload(); !reloaded) return reloaded;
      return image_.mark_clean();
    }
    int error = 0;
    for_each_difference([&](std::uint64_t cluster, std::uint64_t stored, std::uint64_t counted) {
      const bool leak = stored > counted;
      if (error != 0 || (!leak && repair_ != Repair::All)) return;
      error = image_.refcounts().set(cluster, counted);
      if (error == 0 && cluster < counts_.size()) ++(leak ? result_.leaks_fixed : result_.corruptions_fixed);
    });
    image_.note_written();
    if (error == 0) error = image_.flush();
    if (error != 0) return system_error("cannot repair " + file_.name(), error);
    return repair_ == Repair::All && result_.check_errors == 0 ? image_.mark_clean() : Result<void>{};
  }

  void forget_refcount_structures() {
    const std::uint64_t first = header_.refcount_table_offset >> header_.cluster_bits;
    for (std::uint64_t i = 0; i < header_.refcount_table_clusters; ++i) counts_.decrement(first + i);
    for (const std::uint64_t offset : image_.refcounts().table()) {
      if (offset != 0 && offset % header_.cluster_size() == 0) counts_.decrement(offset >> header_.cluster_bits);
    }
  }

  /// `flagged`: what the entry says of the cluster. Returns whether it is to be changed.
  bool wrong_flag(const char* what, std::uint64_t host, bool flagged) {
    std::uint64_t stored = 0;
    if ((host >> header_.cluster_bits) >= counts_.size()) return false;  // reported before
    if (image_.refcounts().get(host >> header_.cluster_bits, stored) != 0) return false;
    if (flagged == (stored == 1)) return false;
    corrupt("{} at {:#x} is {}marked as copied and has refcount {}", what, host, flagged ? "" : "not ", stored);
    return repair_ == Repair::All;
  }

  int write_entry(std::uint64_t at, std::uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store_be(bytes.data(), value);
    const int error = file_.write_bytes(at, bytes);
    if (error == 0) {
      ++result_.corruptions_fixed;
    } else {
      ++result_.check_errors;
    }
    return error;
  }

  void check_copied_flags() {
    std::vector<std::byte> l1(header_.l1_size * std::uint64_t{8});
    if (!read(header_.l1_table_offset, l1)) return;
    std::vector<std::byte> l2(header_.cluster_size());
    for (std::uint32_t i = 0; i < header_.l1_size; ++i) {
      const auto entry = load_be<std::uint64_t>(&l1[i * std::size_t{8}]);
      const std::uint64_t table = entry & kOffsetMask;
      if (table == 0 || table % header_.cluster_size() != 0) continue;
      if ((table >> header_.cluster_bits) >= counts_.size()) continue;
      if (wrong_flag("the L2 table", table, (entry & kCopied) != 0)) {
        write_entry(header_.l1_table_offset + i * std::uint64_t{8}, entry ^ kCopied);
      }
      if (!read(table, l2)) continue;
      for (std::uint64_t n = 0; n < header_.l2_entries(); ++n) {
        const L2Entry cluster = l2_entry(l2, n);
        const std::uint64_t at = table + n * header_.l2_entry_size();
        if (is_compressed(cluster)) {
          if ((cluster.word & kCopied) != 0 && repair_ == Repair::All) write_entry(at, cluster.word & ~kCopied);
          continue;
        }
        if (host_offset(cluster) == 0 || is_broken(header_, cluster)) continue;
        if (wrong_flag("the data cluster", host_offset(cluster), (cluster.word & kCopied) != 0)) {
          write_entry(at, cluster.word ^ kCopied);
        }
      }
    }
    if (repair_ != Repair::None) file_.sync();
  }

  Qcow2Image& image_;
  File& file_;
  const Header& header_;
  const Repair repair_;
  const Progress& progress_;
  CheckResult result_;
  ReferenceCounts counts_;
  bool structure_broken_ = false;
  std::uint64_t next_contiguous_ = 0;
  std::uint64_t last_used_ = 0;
};

}  // namespace

Result<CheckResult> check_image(Qcow2Image& image, Repair repair, const Progress& progress) {
  if (const int error = image.flush(); error != 0) return system_error("cannot write " + image.name(), error);
  return Checker(image, repair, progress).run();
}

}  // namespace doppel::storage::qcow2
