#pragma once

#include <cstdint>

#include "base/bits.h"

/// Names of registers and their bits, as in Intel's SDM vol. 1 ch. 3 and vol. 3 ch. 2 and AMD's APM vol. 2.
namespace doppel::x86 {

enum Gpr : std::uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15
};

/// In the order of the encoding.
enum class SegReg : std::uint8_t { Es, Cs, Ss, Ds, Fs, Gs };

namespace rflags {
inline constexpr std::uint64_t kCf = bit(0), kReserved1 = bit(1), kPf = bit(2), kAf = bit(4), kZf = bit(6),
                               kSf = bit(7), kTf = bit(8), kIf = bit(9), kDf = bit(10), kOf = bit(11),
                               kIopl = bit(12) | bit(13), kNt = bit(14), kRf = bit(16), kVm = bit(17), kAc = bit(18),
                               kVif = bit(19), kVip = bit(20), kId = bit(21);
inline constexpr std::uint64_t kStatus = kCf | kPf | kAf | kZf | kSf | kOf;
}  // namespace rflags

namespace cr0 {
inline constexpr std::uint64_t kPe = bit(0), kMp = bit(1), kEm = bit(2), kTs = bit(3), kEt = bit(4), kNe = bit(5),
                               kWp = bit(16), kAm = bit(18), kNw = bit(29), kCd = bit(30), kPg = bit(31);
}  // namespace cr0

namespace cr4 {
inline constexpr std::uint64_t kVme = bit(0), kPvi = bit(1), kTsd = bit(2), kDe = bit(3), kPse = bit(4), kPae = bit(5),
                               kMce = bit(6), kPge = bit(7), kPce = bit(8), kOsfxsr = bit(9), kOsxmmexcpt = bit(10),
                               kUmip = bit(11), kFsgsbase = bit(16), kPcide = bit(17), kOsxsave = bit(18),
                               kSmep = bit(20), kSmap = bit(21);
}  // namespace cr4

namespace efer {
inline constexpr std::uint64_t kSce = bit(0), kLme = bit(8), kLma = bit(10), kNxe = bit(11), kAibrse = bit(21);
}  // namespace efer

namespace xcr0 {
inline constexpr std::uint64_t kX87 = bit(0), kSse = bit(1), kAvx = bit(2);
}  // namespace xcr0

/// Exception vectors, SDM vol. 3, table 6-1.
namespace vector {
inline constexpr std::uint8_t kDe = 0, kDb = 1, kNmi = 2, kBp = 3, kOf = 4, kBr = 5, kUd = 6, kNm = 7, kDf = 8,
                              kTs = 10, kNp = 11, kSs = 12, kGp = 13, kPf = 14, kMf = 16, kAc = 17, kMc = 18, kXm = 19;
}  // namespace vector

/// #PF error code, SDM vol. 3, 4.7.
namespace pf {
inline constexpr std::uint32_t kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8, kFetch = 16;
}  // namespace pf

}  // namespace doppel::x86
