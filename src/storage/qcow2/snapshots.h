#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/qcow2/header.h"

namespace doppel::storage::qcow2 {

/// One internal snapshot, as the image's table describes it. Doppel reads around them and makes none.
struct Snapshot {
  std::uint64_t l1_table_offset = 0;
  std::uint32_t l1_size = 0;
  std::string id, name;
  std::uint32_t date_seconds = 0;
  std::uint64_t vm_clock_ns = 0;
  std::uint64_t vm_state_size = 0;
  std::uint64_t table_bytes = 0;  ///< of this entry
};

/// The table's entries; each L1 table lies in the file and is within bounds.
Result<std::vector<Snapshot>> read_snapshots(File& file, const Header& header);

}  // namespace doppel::storage::qcow2
