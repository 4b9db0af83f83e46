#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/image.h"
#include "storage/qcow2/compression.h"
#include "storage/qcow2/header.h"
#include "storage/qcow2/l2_entry.h"
#include "storage/qcow2/refcounts.h"
#include "storage/qcow2/table_cache.h"
#include "storage/sync_state.h"

namespace doppel::storage::qcow2 {

/// An open qcow2 image.
///
/// Tables change in memory first; flush() commits them in an order that leaves a consistent image wherever the power
/// goes: data and refcounts, then the tables that refer to them, then the decrease of refcounts of what is referred to
/// no more (a cluster is not used again before that). A crash can leak clusters at worst. Images with lazy refcounts
/// carry the dirty bit while they are open and skip the ordering of refcounts.
///
/// Locks, in this order: commit turn, ranges_ (by guest offset: readers and writers in place share, what changes the
/// mapping is alone on its clusters), meta_ (never held during data I/O).
class Qcow2Image final : public Image {
 public:
  struct Options {
    bool read_only = true;
    /// Take an image as it is: dirty or marked corrupt, for those who examine or repair it.
    bool for_check = false;
    std::uint64_t l2_cache_bytes = 8U << 20;
    std::uint64_t refcount_cache_bytes = 2U << 20;
  };

  /// `backing` may be null. An image left dirty is repaired when opened for writing.
  static Result<std::shared_ptr<Qcow2Image>> open(std::shared_ptr<File> file, std::shared_ptr<Image> backing,
                                                  const Options& options);
  /// Flushes and marks the image clean. Errors at this point are logged.
  ~Qcow2Image() override;

  const char* format() const override { return "qcow2"; }
  const std::string& name() const override { return file_->name(); }
  std::uint64_t size() const override { return size_; }
  bool read_only() const override { return options_.read_only; }
  std::uint64_t cluster_size() const override { return header_.cluster_size(); }
  int read(std::uint64_t offset, Buffers into) override;
  int write(std::uint64_t offset, Buffers from) override;
  int write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override;
  int discard(std::uint64_t offset, std::uint64_t length) override;
  int flush() override;
  int keep() override { return file_->keep(); }
  int extent(std::uint64_t offset, std::uint64_t length, Extent& extent) override;
  bool locate(bool for_write, std::uint64_t offset, std::uint64_t length, Located& located) override;
  bool is_flushed() const override { return state_.is_synced(); }
  void note_written() override { state_.note_written(); }
  std::shared_ptr<Image> backing() const override;
  Result<void> freeze() override;
  Result<void> thaw() override;

  /// Fixed but for size, l1_*, refcount_table_*; those may be read while nothing else is done with the image.
  const Header& header() const { return header_; }
  File& file() { return *file_; }
  Refcounts& refcounts() { return refcounts_; }

  /// A whole cluster (the disk's last one may be short), stored compressed if that makes it smaller. `offset` is a
  /// multiple of the cluster size and the cluster unallocated: for those who fill a new image.
  int write_compressed(std::uint64_t offset, std::span<const std::byte> cluster);
  /// Sets every unit of [offset, offset + length) free that is fully inside: the backing image shows through again. For
  /// those who merge images.
  int unmap(std::uint64_t offset, std::uint64_t length);
  /// Reserves clusters for the whole disk without writing their data; what was never written reads as zeros.
  int preallocate_metadata();
  /// A multiple of 512. Shrinking drops what lies beyond; not possible with internal snapshots.
  Result<void> resize(std::uint64_t size);
  /// Names another backing file; the caller answers for the contents fitting. Empty: none.
  Result<void> set_backing(const std::string& name, const std::optional<std::string>& format,
                           std::shared_ptr<Image> backing);
  /// Reads everything anew, after others wrote to the file directly.
  Result<void> reload();
  /// Removes the marks of an image that was repaired.
  Result<void> mark_clean();

 private:
  /// A run of guest bytes with the same fate.
  struct Piece {
    Extent::Kind kind;
    std::uint64_t offset;  ///< guest
    std::uint64_t length;
    std::uint64_t host = 0;  ///< Data: byte in the file
    std::uint64_t word = 0;  ///< Compressed: the entry
    bool allocated = false;  ///< Zero: with space at `host`
  };
  /// What is to happen to one cluster of a write.
  struct ClusterWrite {
    std::uint64_t cluster;
    std::uint64_t begin, end;  ///< bytes in the cluster that the request has
    L2Entry old;
    bool fresh;  ///< gets a new host cluster
    std::uint64_t host;
  };
  struct Free {
    std::uint64_t offset;      ///< of a host cluster
    bool punch = false;        ///< give its space back to the host
    bool decremented = false;  ///< in memory; it is in quarantine
  };
  struct Writes;
  struct Batch;

  Qcow2Image(std::shared_ptr<File> file, std::shared_ptr<Image> backing, const Header& header, const Options& options);

  Result<void> load();
  Result<void> open_for_writing();
  Result<void> write_header();

  // resize.cpp
  Result<void> clear_tail(std::uint64_t begin, std::uint64_t end);
  Result<void> grow_l1(std::uint64_t entries);
  int hide_backing(std::uint64_t size);

  // map.cpp: with meta_ held
  std::uint64_t slice_of(std::uint64_t cluster, std::uint64_t table) const;
  int lookup(std::uint64_t cluster, L2Entry& entry);
  bool lookup_cached(std::uint64_t cluster, L2Entry& entry);
  L2Entry entry_in(const TableCache::Slice& slice, std::uint64_t cluster) const;
  int store(std::uint64_t cluster, const L2Entry& entry);
  int make_table_writable(std::uint64_t l1_index);
  void append_pieces(std::uint64_t begin, std::uint64_t end, const L2Entry& entry, std::vector<Piece>& pieces) const;
  // map.cpp
  int collect(std::uint64_t offset, std::uint64_t length, std::vector<Piece>& pieces);

  // read.cpp
  int read_piece(const Piece& piece, Buffers into);
  int read_backing(std::uint64_t offset, Buffers into);
  int unpack(std::uint64_t word, UnpackedClusters::Cluster& cluster);
  int read_pieces(const std::vector<Piece>& pieces, std::uint64_t offset, Buffers into);

  // write.cpp
  int write_in_place(std::uint64_t offset, Buffers from, bool& done);
  int write_mapping(std::uint64_t offset, Buffers from);
  int plan(std::uint64_t offset, std::uint64_t length, std::vector<ClusterWrite>& plan);
  void unplan(const std::vector<ClusterWrite>& plan);
  int gather_writes(const ClusterWrite& write, Buffers from, Writes& writes);
  int link(const std::vector<ClusterWrite>& plan);
  int read_old(const ClusterWrite& write, std::uint64_t begin, std::span<std::byte> into);
  int allocate_bytes(std::uint64_t size, std::uint64_t& offset);
  void release(const L2Entry& entry, bool punch);

  // zero.cpp
  enum class Zeroing : std::uint8_t { Keep, Unmap, Discard, Expose };
  static constexpr std::uint64_t kZeroStep = std::uint64_t{256} << 20;  ///< at a time, of long ranges
  int make_zero(std::uint64_t offset, std::uint64_t length, Zeroing how);
  int zero_units(std::uint64_t offset, std::uint64_t length, Zeroing how, std::vector<Piece>& not_done);
  bool zero_cluster(std::uint64_t cluster, unsigned first, unsigned end, Zeroing how, L2Entry& entry);

  // commit.cpp
  int commit();
  int commit_once();
  void begin_batch(Batch& batch);
  int write_batch(Batch& batch);
  void end_batch(Batch& batch, bool written);
  int write_copies(const std::vector<TableCache::Copy>& copies);
  int write_refcount_table(const Refcounts::TableChange& change);
  void punch_holes(std::vector<Free>& frees);
  int apply_frees(const std::vector<Free>& frees);
  int write_dirty_bit(bool dirty);
  int make_room();

  std::shared_ptr<File> file_;
  struct Mode {
    std::atomic<bool> read_only;
    const bool for_check;
  } options_;
  Header header_;
  std::atomic<std::uint64_t> size_;
  SyncState state_;
  RangeLock ranges_;
  UnpackedClusters unpacked_;
  std::atomic<bool> told_damage_ = false;

  mutable std::mutex meta_;  ///< everything below, up to the next comment
  std::shared_ptr<Image> backing_;
  std::vector<std::uint64_t> l1_;       ///< as in the file, flags included
  std::set<std::uint64_t> changed_l1_;  ///< entries the file does not have yet
  TableCache l2_;
  Refcounts refcounts_;
  std::vector<Free> frees_;           ///< no longer referred to by the tables in memory
  std::uint64_t compressed_end_ = 0;  ///< where the next compressed cluster may begin; 0: in a new host cluster

  std::mutex turn_;  ///< whose commit it is
  std::condition_variable turn_changed_;
  bool committing_ = false;
  std::uint64_t commits_started_ = 0;
  std::uint64_t commits_ended_ = 0;
  int last_commit_error_ = 0;
  bool dirty_bit_set_ = false;  ///< by us, in the file; only the committer uses it
};

}  // namespace doppel::storage::qcow2
