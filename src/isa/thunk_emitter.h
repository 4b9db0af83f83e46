#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa/canonical.h"
#include "isa/decoded_op.h"

namespace doppel::isa {

/// How a thunk comes to the address of its memory operand.
enum class AddressForm : std::uint8_t {
  None,           ///< it has none
  Given,          ///< a CoreThunk's third argument
  Flat64,         ///< base + index * scale + displacement
  Flat64Segment,  ///< … plus DecodedOp::segment_base
  Flat32,         ///< the sum cut to 32 bits, in segments without base and limit
};

/// What to generate for a canonical instruction.
struct ThunkRequest {
  AddressForm address = AddressForm::None;
  bool has_index = false;
  std::uint8_t scale = 1;
  /// Flags that the instruction writes are overwritten before anybody could see them.
  bool discard_flags = false;
};

/// What generated code has to know of the program around it.
struct ThunkEnvironment {
  std::size_t state_offset = 0;  ///< of the x86::CpuState from the ThunkContext
  /// Executes an op whose memory operand is not at hand: not in the TLB, crossing pages.
  Handler memory_miss = nullptr;
  /// After a store to a page that holds code; goes on like a Handler.
  void (*stored_to_code)(ThunkContext* context, const DecodedOp* op, std::uint64_t linear) = nullptr;
  /// The host raised an exception; throws.
  void (*host_fault)(ThunkContext* context, const DecodedOp* op, std::uint64_t vector) = nullptr;
};

/// The machine code: a CoreThunk for AddressForm::Given, otherwise a Handler. Position-independent. Calls nothing: it
/// leaves by a jump, so that exceptions thrown beyond never meet its frame.
std::vector<std::byte> emit_thunk(const Canonical& canonical, const ThunkRequest& request,
                                  const ThunkEnvironment& environment);

}  // namespace doppel::isa
