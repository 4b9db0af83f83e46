#include "isa/system.h"

#include <gtest/gtest.h>

namespace doppel::isa {
namespace {

TEST(SystemOp, ExistsForSystemInstructionsOnly) {
  for (const ZydisMnemonic mnemonic :
       {ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_CLTS, ZYDIS_MNEMONIC_LGDT, ZYDIS_MNEMONIC_LSS, ZYDIS_MNEMONIC_IRETQ,
        ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_POPFQ, ZYDIS_MNEMONIC_HLT, ZYDIS_MNEMONIC_CPUID, ZYDIS_MNEMONIC_OUTSB,
        ZYDIS_MNEMONIC_RDRAND, ZYDIS_MNEMONIC_ENTER, ZYDIS_MNEMONIC_DAA, ZYDIS_MNEMONIC_XSAVE64,
        ZYDIS_MNEMONIC_VMMCALL}) {
    EXPECT_NE(system_op(mnemonic), nullptr) << ZydisMnemonicGetString(mnemonic);
  }
  for (const ZydisMnemonic mnemonic : {ZYDIS_MNEMONIC_INVALID, ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_PADDB,
                                       ZYDIS_MNEMONIC_VMLAUNCH, ZYDIS_MNEMONIC_MAX_VALUE}) {
    EXPECT_EQ(system_op(mnemonic), nullptr) << mnemonic;
  }
  EXPECT_EQ(system_op(static_cast<ZydisMnemonic>(ZYDIS_MNEMONIC_MAX_VALUE + 1)), nullptr);
}

}  // namespace
}  // namespace doppel::isa
