#include "isa/system.h"

#include <array>
#include <memory>

#include "isa/system/ops.h"

namespace doppel::isa {
namespace {

using Table = std::array<SystemOp, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

Table make_table() {
  Table table{};
  for (const auto& entries :
       {register_move_ops(), control_ops(), descriptor_table_ops(), segment_ops(), far_transfer_ops(), interrupt_ops(),
        flag_ops(), processor_ops(), identification_ops(), port_ops(), random_ops(), stack_frame_ops(), decimal_ops(),
        extended_state_ops(), hypervisor_ops()}) {
    for (const SystemEntry& entry : entries) table[entry.mnemonic] = entry.op;
  }
  return table;
}

}  // namespace

SystemOp system_op(ZydisMnemonic mnemonic) {
  static const Table table = make_table();
  const auto index = static_cast<std::size_t>(mnemonic);
  return index < table.size() ? table[index] : nullptr;
}

}  // namespace doppel::isa
