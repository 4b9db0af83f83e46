#include "devices/serial16550.h"

#include <gtest/gtest.h>

#include <string>

#include "devices/line_probe.h"
#include "devices/manual_time.h"
#include "state/contract.h"

namespace doppel::devices {
namespace {

struct Terminal : SerialBackend {
  void transmit(std::span<const std::uint8_t> bytes) override {
    output.append(bytes.begin(), bytes.end());
    ++batches;
  }
  void receive_space_available() override { ++offers; }
  std::string output;
  int batches = 0;
  int offers = 0;
};

class Serial16550Test : public testing::Test {
 protected:
  Serial16550Test() { uart.connect_irq(probe.line(0)); }

  enum Register { kRbr = 0, kIer = 1, kIir = 2, kFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6, kScr = 7 };

  std::uint8_t in(unsigned reg) { return static_cast<std::uint8_t>(uart.read(reg, 1)); }
  void out(unsigned reg, std::uint8_t value) { uart.write(reg, 1, value); }
  std::size_t type(const std::string& text) {
    return uart.receive({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  /// As an operating system does: FIFO on, DTR, RTS and OUT2, no interrupt enabled yet.
  void open(std::uint8_t fcr = 0x01) {
    out(kFcr, fcr);
    out(kMcr, 0x0B);
    in(kMsr);
    probe.take_edges(0);
  }
  bool irq() const { return probe.level(0); }

  test::ManualTime time;
  test::LineProbe probe;
  Terminal terminal;
  Serial16550 uart{"com1", &terminal, time.clock, time.timers};
};

TEST_F(Serial16550Test, RegistersAfterReset) {
  EXPECT_EQ(in(kIer), 0x00);
  EXPECT_EQ(in(kIir), 0x01);
  EXPECT_EQ(in(kLcr), 0x00);
  EXPECT_EQ(in(kMcr), 0x00);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kMsr), 0xB0);
}

TEST_F(Serial16550Test, WritableBits) {
  out(kIer, 0xFF);
  EXPECT_EQ(in(kIer), 0x0F);
  out(kMcr, 0xFF);
  EXPECT_EQ(in(kMcr), 0x1F);
  out(kMcr, 0);
  out(kScr, 0xA5);
  EXPECT_EQ(in(kScr), 0xA5);
  out(kLsr, 0x00);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Serial16550Test, DivisorLatchHidesTheDataAndInterruptRegisters) {
  out(kIer, 0x05);
  out(kLcr, 0x83);
  out(0, 0x0C);
  out(1, 0x01);
  EXPECT_EQ(in(0), 0x0C);
  EXPECT_EQ(in(1), 0x01);
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0x05);
  uart.flush();
  EXPECT_EQ(terminal.output, "");
}

TEST_F(Serial16550Test, WordAccessIsTwoRegisters) {
  uart.write(kMcr, 2, 0x0003);
  EXPECT_EQ(uart.read(kLcr, 2), 0x0300u);
}

TEST_F(Serial16550Test, OutputComesInBatches) {
  for (const char c : std::string("hello")) out(0, static_cast<std::uint8_t>(c));
  EXPECT_EQ(terminal.output, "");
  time.advance(Serial16550::kBatchTime);
  EXPECT_EQ(terminal.output, "hello");
  EXPECT_EQ(terminal.batches, 1);
  out(0, '!');
  uart.flush();
  EXPECT_EQ(terminal.output, "hello!");
  EXPECT_EQ(time.timers.next_deadline(), time::kNever);
}

TEST_F(Serial16550Test, LongOutputDoesNotWait) {
  for (int i = 0; i < 5000; ++i) out(0, 'x');
  EXPECT_EQ(terminal.output.size(), 4096u);
}

// --- Interrupts, in the order of the data sheet's table IV ---

TEST_F(Serial16550Test, ThrEmptyInterruptsWhenEnabledAndAfterEveryCharacter) {
  open();
  out(kIer, 0x02);
  EXPECT_TRUE(irq());
  EXPECT_EQ(in(kIir), 0xC2);
  EXPECT_FALSE(irq()) << "reading the IIR that shows it ends it";
  EXPECT_EQ(in(kIir), 0xC1);
  out(0, 'a');
  EXPECT_TRUE(irq());
  probe.take_edges(0);
  out(0, 'b');
  EXPECT_TRUE(irq());
  EXPECT_EQ(probe.take_edges(0), 1u) << "an edge for an edge-triggered controller";
  out(kIer, 0x00);
  EXPECT_FALSE(irq());
  out(kIer, 0x02);
  EXPECT_TRUE(irq());
}

TEST_F(Serial16550Test, IirReadKeepsThrEmptyWhileAnotherInterruptShows) {
  open();
  out(kIer, 0x03);
  type("x");
  EXPECT_EQ(in(kIir)&0x0F, 0x04);
  in(kRbr);
  EXPECT_EQ(in(kIir)&0x0F, 0x02);
}

TEST_F(Serial16550Test, PrioritiesOfAllInterrupts) {
  open();
  uart.receive_break();
  out(kMcr, 0x10);  // loopback moves the modem inputs
  out(kMcr, 0x0B);
  out(kIer, 0x0F);
  EXPECT_EQ(in(kIir), 0xC6);
  in(kLsr);
  EXPECT_EQ(in(kIir), 0xC4);
  in(kRbr);
  EXPECT_EQ(in(kIir), 0xC2);
  EXPECT_EQ(in(kIir), 0xC0);
  in(kMsr);
  EXPECT_EQ(in(kIir), 0xC1);
  EXPECT_FALSE(irq());
}

TEST_F(Serial16550Test, EachInterruptHasItsEnableBit) {
  open();
  uart.receive_break();
  out(kMcr, 0x10);
  out(kMcr, 0x0B);
  const std::pair<std::uint8_t, std::uint8_t> table[] = {{0x04, 0x06}, {0x01, 0x04}, {0x02, 0x02}, {0x08, 0x00}};
  for (const auto& [ier, iir] : table) {
    out(kIer, ier);
    EXPECT_TRUE(irq());
    EXPECT_EQ(in(kIir)&0x0F, iir);
  }
  out(kIer, 0x00);
  EXPECT_FALSE(irq());
}

TEST_F(Serial16550Test, Out2GatesTheInterrupt) {
  out(kMcr, 0x03);
  out(kIer, 0x02);
  EXPECT_FALSE(irq());
  out(kMcr, 0x0B);
  EXPECT_TRUE(irq());
  out(kMcr, 0x1B);
  EXPECT_FALSE(irq());
}

// --- Receiver ---

TEST_F(Serial16550Test, TriggerLevels) {
  const std::pair<std::uint8_t, std::size_t> table[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xC1, 14}};
  for (const auto& [fcr, trigger] : table) {
    open(static_cast<std::uint8_t>(fcr | 0x02));
    out(kIer, 0x01);
    for (std::size_t i = 1; i < trigger; ++i) {
      type("x");
      EXPECT_EQ(in(kIir), 0xCC) << "timeout: the line is idle below the trigger level";
    }
    type("x");
    EXPECT_EQ(in(kIir), 0xC4);
    in(kRbr);
    EXPECT_EQ(in(kIir), trigger == 1 ? 0xC1 : 0xCC);
  }
}

TEST_F(Serial16550Test, FifoHoldsSixteenAndGivesThemInOrder) {
  open();
  EXPECT_EQ(type("0123456789abcdefgh"), 16u);
  EXPECT_EQ(type("!"), 0u);
  std::string read;
  while ((in(kLsr)&0x01) != 0) read += static_cast<char>(in(kRbr));
  EXPECT_EQ(read, "0123456789abcdef");
  EXPECT_EQ(in(kLsr), 0x60) << "flow control, so no overrun";
}

TEST_F(Serial16550Test, WithoutFifoThereIsOneCharacter) {
  open(0x00);
  out(kIer, 0x01);
  EXPECT_EQ(type("ab"), 1u);
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kRbr), 'a');
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Serial16550Test, EmptyReceiverAsksForMore) {
  open();
  type("ab");
  terminal.offers = 0;
  in(kRbr);
  EXPECT_EQ(terminal.offers, 0);
  in(kRbr);
  EXPECT_EQ(terminal.offers, 1);
}

TEST_F(Serial16550Test, NothingIsTakenBeforeTheGuestListens) {
  EXPECT_EQ(type("a"), 0u);
  out(kIer, 0x01);
  EXPECT_EQ(type("a"), 0u) << "the FIFO that is about to be enabled would lose it";
  terminal.offers = 0;
  out(kFcr, 0x01);
  EXPECT_EQ(terminal.offers, 1);
  EXPECT_EQ(type("a"), 1u);
  out(kIer, 0x00);
  EXPECT_EQ(type("a"), 0u);
  out(kMcr, 0x03);
  EXPECT_EQ(type("a"), 1u);
  out(kMcr, 0x13);
  EXPECT_EQ(type("a"), 0u) << "loopback cuts the line";
}

TEST_F(Serial16550Test, NothingIsTakenWhileRtsIsOff) {
  open();
  out(kIer, 0x01);
  out(kMcr, 0x09);
  EXPECT_EQ(type("a"), 0u);
  terminal.offers = 0;
  out(kMcr, 0x0B);
  EXPECT_EQ(terminal.offers, 1);
  EXPECT_EQ(type("a"), 1u);
}

TEST_F(Serial16550Test, FcrResetsTheReceiver) {
  open();
  type("ab");
  out(kFcr, 0x03);
  EXPECT_EQ(in(kLsr), 0x60);
  type("ab");
  out(kFcr, 0x00);
  EXPECT_EQ(in(kLsr), 0x60) << "so does switching the FIFOs";
}

TEST_F(Serial16550Test, BreakShowsWhenItsCharacterIsNext) {
  open();
  type("a");
  uart.receive_break();
  EXPECT_EQ(in(kLsr), 0xE1) << "somewhere in the FIFO is an error";
  in(kRbr);
  EXPECT_EQ(in(kLsr), 0xF1);
  EXPECT_EQ(in(kLsr), 0x61) << "reading clears it";
  EXPECT_EQ(in(kRbr), 0x00);
}

// --- Loopback ---

TEST_F(Serial16550Test, LoopbackReturnsCharacters) {
  out(kFcr, 0x01);
  out(kMcr, 0x10);
  out(0, 'x');
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kRbr), 'x');
  uart.flush();
  EXPECT_EQ(terminal.output, "");
}

TEST_F(Serial16550Test, LoopbackOverruns) {
  out(kMcr, 0x10);
  out(0, 'a');
  out(0, 'b');
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kRbr), 'b') << "without FIFOs the later overwrites";
  out(kFcr, 0x01);
  for (int i = 0; i < 17; ++i) out(0, static_cast<std::uint8_t>('a' + i));
  EXPECT_EQ(in(kLsr), 0x63);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(in(kRbr), 'a' + i);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Serial16550Test, LoopbackConnectsTheModemLines) {
  const std::pair<std::uint8_t, std::uint8_t> table[] = {{0x10, 0x00}, {0x11, 0x20}, {0x12, 0x10},
                                                         {0x14, 0x40}, {0x18, 0x80}, {0x1F, 0xF0}};
  for (const auto& [mcr, msr] : table) {
    out(kMcr, mcr);
    in(kMsr);
    EXPECT_EQ(in(kMsr), msr);
  }
}

TEST_F(Serial16550Test, ModemDeltas) {
  out(kMcr, 0x10);
  in(kMsr);
  out(kMcr, 0x12);
  EXPECT_EQ(in(kMsr), 0x11);
  out(kMcr, 0x11);
  EXPECT_EQ(in(kMsr), 0x23);
  out(kMcr, 0x1C);
  EXPECT_EQ(in(kMsr), 0xCA) << "a rising RI is no trailing edge";
  out(kMcr, 0x10);
  EXPECT_EQ(in(kMsr), 0x0C);
  EXPECT_EQ(in(kMsr), 0x00);
}

// --- State ---

TEST_F(Serial16550Test, TransmitEmptyInterruptSurvivesRestore) {
  open();
  out(kIer, 0x02);
  out(0, 'a');
  ASSERT_TRUE(irq());
  const auto saved = state::save(test::describe_of(uart));
  uart.reset(bus::ResetKind::Cold);
  ASSERT_FALSE(irq());
  ASSERT_TRUE(state::load(saved, test::describe_of(uart)).ok());
  EXPECT_TRUE(irq());
  EXPECT_EQ(in(kIir), 0xC2);
}

TEST_F(Serial16550Test, SavingHandsOverWhatWasSent) {
  out(0, 'a');
  (void)state::save(test::describe_of(uart));
  EXPECT_EQ(terminal.output, "a");
}

TEST_F(Serial16550Test, UnreadInputSurvivesRestore) {
  open();
  out(kIer, 0x01);
  type("abc");
  const auto saved = state::save(test::describe_of(uart));
  Terminal other_terminal;
  test::LineProbe other_probe;
  Serial16550 other("com1", &other_terminal, time.clock, time.timers);
  other.connect_irq(other_probe.line(0));
  ASSERT_TRUE(state::load(saved, test::describe_of(other)).ok());
  EXPECT_TRUE(other_probe.level(0));
  EXPECT_EQ(other.read(0, 1), std::uint64_t{'a'});
}

TEST_F(Serial16550Test, WorksWithNobodyAtTheOtherEnd) {
  Serial16550 lonely("com2", nullptr, time.clock, time.timers);
  lonely.write(0, 1, 'x');
  lonely.flush();
  EXPECT_EQ(lonely.read(kLsr, 1), 0x60u);
}

TEST_F(Serial16550Test, Contract) {
  test::expect_contract(uart, [this] {
    out(kLcr, 0x80);
    out(0, 1);
    out(1, 2);
    out(kLcr, 0x03);
    open(0x81);
    out(kIer, 0x0F);
    out(kScr, 0x55);
    type("abc");
    uart.receive_break();
    out(0, 'x');
  });
  test::expect_schema("serial16550", uart);
}

}  // namespace
}  // namespace doppel::devices
