#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/dbt/access_groups.h"
#include "time/tsc_line.h"

namespace doppel::engine::dbt {

/// Why translated code came back to C++.
enum class ExitReason : std::uint32_t {
  Lookup,            ///< the block at guest address Env::target is not in the jump table
  Chain,             ///< a direct jump that has not been linked yet
  Interpret,         ///< an instruction that is not translated
  InterpretAndLook,  ///< … after which an event may be deliverable
  ReadMiss,          ///< Env::scratch_r11 is not in the read table
  WriteMiss,         ///< … nor in the write table
  Remapped,          ///< the instruction crosses into a page that may be another one by now
  Crossing,          ///< an access that does not stay inside its page
  String,            ///< a repeated string instruction has come to where it does not go on by itself
  Split,             ///< a group of accesses is not in one page, or may not all be made yet
  Attention,         ///< the attention word is not zero
  LoadFpu,           ///< the guest's x87 state is wanted in the host's registers
  Nowhere,           ///< a jump to JumpTable::kNowhere while something waits for the vCPU
  HostFault,         ///< the host's processor raised an exception at Env::fault_pc
};

inline constexpr std::size_t kExitReasons = static_cast<std::size_t>(ExitReason::HostFault) + 1;
inline constexpr std::array<const char*, kExitReasons> kExitReasonNames{
    "lookup",   "chain",  "interpret", "interpret_and_look", "read_miss", "write_miss", "remapped",
    "crossing", "string", "split",     "attention",          "load_fpu",  "nowhere",    "host_fault"};

/// What translated code addresses directly: the host's rsp points just below `slot` while it runs. One per vCPU,
/// visible at three addresses, one below the read table of each view (views.h). Belongs to the vCPU's thread; its
/// layout is known to the emitter.
struct Env {
  std::array<std::uint64_t, AccessGroups::kMost> group;  ///< distances from linear to host address
  std::array<std::byte, 16> called;                      ///< where a CALL in the code cache leaves its return address

  std::array<std::uint64_t, 3> slot;            ///< guest r9, r10, r11
  std::uint64_t page_offset_mask;               ///< of PEXT: an address to the offset in its page
  std::uint64_t page_carry_mask;                ///< … to whether such an offset has left the page
  std::array<std::uint32_t, 4> alignment_mask;  ///< … to what keeps it from being aligned to 2, 4, 8 bytes
  /// Of PDEP: an address to its place in the jump table; 0 while something waits for the vCPU, so that look-ups find
  /// nothing and loops end.
  std::atomic<std::uint64_t> jump_mask;
  std::uint64_t found_mask;  ///< the same without that, for what has been found
  std::uint64_t page_mask;   ///< of PEXT and PDEP: what an address shares with its page
  std::uint64_t page_base;   ///< linear address of the page of the running block, in user code
  std::uint64_t fs_base, gs_base;
  std::uint64_t value;           ///< a loaded operand, while its instruction makes another access
  std::uint64_t interrupt_flag;  ///< RFLAGS.IF, in its place

  // From here on a displacement takes four bytes.
  std::uint64_t kernel_gs_base;
  std::uint64_t mappings;                  ///< counts the flushes of the TLB
  std::uint64_t target;                    ///< guest address of a jump under way
  std::uint64_t bit_mask_32, bit_mask_64;  ///< of PEXT: of a bit number to what counts in an operand of so many bits
  std::uint64_t fpu_loaded;
  std::uint64_t access_flag;        ///< RFLAGS.AC, in its place
  std::uint64_t direction_flag;     ///< RFLAGS.DF, in its place
  std::uint64_t pushed_flags;       ///< what PUSHF pushes beside IF, AC, DF and the arithmetic flags
  std::uint64_t interrupt_waiting;  ///< STI has to look for one
  const time::TscLine* clock;       ///< what RDTSC is computed from; null where the interpreter has to
  std::uint64_t fsgsbase;           ///< CR4.FSGSBASE, in its place
  std::uint64_t counted_instructions, counted_lookups;  ///< where blocks have been made to count

  /// SYSCALL and SYSRET may switch between user and supervisor code by themselves: the state allows it, and both jump
  /// tables hold what they lead to.
  std::uint64_t may_switch;
  std::uint64_t may_change_access;  ///< so may STAC and CLAC
  std::uint64_t switched;           ///< they have
  std::uint64_t returns;            ///< to user code, counted
  std::uint64_t write_table;        ///< what gs points to
  /// The host's rsp and gs under the view of supervisor code with AC clear, of user code, of supervisor code with AC.
  struct Tables {
    std::uint64_t stack_pointer, write_table;
  };
  std::array<Tables, 3> tables;

  /// What string_routines.cpp's keep while the host's instruction has their registers.
  struct String {
    std::uint64_t flags, count, source, destination;
  };
  String string;

  ExitReason reason;
  std::uint32_t host_mxcsr;
  std::uint64_t scratch_r11;
  std::uint64_t host_rsp;
  const void* resume;
  void* state;  ///< x86::CpuState
  std::uint64_t fault_pc, fault_vector;
  const void* fault_resume;  ///< where the signal handler sends a fault
};

/// Where in it the host's rsp points to. Its low six bits are a shift count that tables are indexed with.
inline constexpr std::size_t kEnvAnchor = offsetof(Env, slot) - 4;
inline constexpr unsigned kEnvShift = 28;
static_assert(kEnvAnchor % 64 == kEnvShift && offsetof(Env, called) + 4 == kEnvAnchor - 8);

/// Distance of a field from the host's rsp.
#define DOPPEL_ENV(field)                                                   \
  (static_cast<std::int32_t>(offsetof(::doppel::engine::dbt::Env, field)) - \
   static_cast<std::int32_t>(::doppel::engine::dbt::kEnvAnchor))

}  // namespace doppel::engine::dbt
