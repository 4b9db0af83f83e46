#include "storage/qcow2/snapshots.h"

#include <array>

#include "base/system_error.h"

namespace doppel::storage::qcow2 {
namespace {

constexpr std::uint64_t kEntryHead = 40;
constexpr std::uint32_t kMaxExtra = 1024;

}  // namespace

Result<std::vector<Snapshot>> read_snapshots(File& file, const Header& header) {
  std::vector<Snapshot> snapshots;
  std::uint64_t at = header.snapshots_offset;
  for (std::uint32_t i = 0; i < header.nb_snapshots; ++i) {
    const Error broken{file.name() + " has a damaged snapshot table"};
    std::array<std::byte, kEntryHead> head{};
    if (const int error = file.read_bytes(at, head); error != 0)
      return system_error("cannot read " + file.name(), error);
    Snapshot snapshot;
    snapshot.l1_table_offset = load_be<std::uint64_t>(&head[0]);
    snapshot.l1_size = load_be<std::uint32_t>(&head[8]);
    const auto id_size = load_be<std::uint16_t>(&head[12]);
    const auto name_size = load_be<std::uint16_t>(&head[14]);
    snapshot.date_seconds = load_be<std::uint32_t>(&head[16]);
    snapshot.vm_clock_ns = load_be<std::uint64_t>(&head[24]);
    snapshot.vm_state_size = load_be<std::uint32_t>(&head[32]);
    const auto extra_size = load_be<std::uint32_t>(&head[36]);
    const std::uint64_t l1_bytes = snapshot.l1_size * std::uint64_t{8};
    if (extra_size > kMaxExtra || l1_bytes > kMaxL1Bytes || snapshot.l1_table_offset % header.cluster_size() != 0 ||
        snapshot.l1_table_offset > file.size() || l1_bytes > file.size() - snapshot.l1_table_offset) {
      return broken;
    }
    std::vector<std::byte> rest(std::uint64_t{extra_size} + id_size + name_size);
    if (const int error = file.read_bytes(at + kEntryHead, rest); error != 0) {
      return system_error("cannot read " + file.name(), error);
    }
    if (extra_size >= 8) snapshot.vm_state_size = load_be<std::uint64_t>(&rest[0]);
    const auto* const text = reinterpret_cast<const char*>(rest.data()) + extra_size;
    snapshot.id.assign(text, id_size);
    snapshot.name.assign(text + id_size, name_size);
    snapshot.table_bytes = (kEntryHead + rest.size() + 7) / 8 * 8;
    at += snapshot.table_bytes;
    if (at - header.snapshots_offset > kMaxSnapshotTableBytes || at > file.size() + 8) return broken;
    snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

}  // namespace doppel::storage::qcow2
