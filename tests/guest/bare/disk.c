#include "disk.h"

enum { kVendor = 0x1AF4, kBlockDevice = 0x1042, kVendorSpecific = 9, kSlots = 32 };
/// Of a vendor-specific capability: which structure it is of, and its fields.
enum { kCommonStructure = 1, kNotifyStructure = 2, kType = 3, kBar = 4, kOffset = 8, kNotifyMultiplier = 16 };
/// Registers of the common structure.
enum {
  kDriverFeatureSelect = 8,
  kDriverFeature = 12,
  kDeviceStatus = 20,
  kQueueSelect = 22,
  kQueueSize = 24,
  kQueueEnable = 28,
  kQueueNotifyOffset = 30,
  kQueueDescriptors = 32,
  kQueueDriver = 40,
  kQueueDevice = 48
};
enum { kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8 };
enum { kEntries = 4, kNext = 1, kDeviceWrites = 2, kNoInterrupt = 1 };

static struct {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
} descriptors[kEntries] __attribute__((aligned(16)));
static volatile struct { uint16_t flags, index, ring[kEntries]; } available;
static volatile struct {
  uint16_t flags, index;
  struct {
    uint32_t id, length;
  } ring[kEntries];
} used __attribute__((aligned(4)));
static struct {
  uint32_t type, reserved;
  uint64_t sector;
} header;
static volatile uint8_t status;
static volatile uint16_t* doorbell;

static uint32_t read_configuration(unsigned slot, unsigned reg) {
  out32(0xCF8, 0x80000000U | slot << 11 | (reg & 0xFC));
  return in32(0xCFC) >> 8 * (reg & 3);
}

static uint64_t bar(unsigned slot, unsigned number) {
  const uint32_t low = read_configuration(slot, 0x10 + 4 * number);
  const uint64_t high = (low & 6) == 4 ? read_configuration(slot, 0x14 + 4 * number) : 0;
  return high << 32 | (low & ~0xFU);
}

/// Maps the 2 MiB around a device's registers, between 3 and 4 GiB.
static volatile uint8_t* map_device(uint64_t address) {
  uint64_t* const directory = (uint64_t*)(pdpt[3] & ~0xFFFULL);
  directory[address >> 21 & 0x1FF] = (address & ~0x1FFFFFULL) | 0x9B;
  flush(address);
  return (volatile uint8_t*)address;
}

static void set_up(volatile uint8_t* common, volatile uint8_t* notify, uint32_t multiplier) {
  common[kDeviceStatus] = 0;
  while (common[kDeviceStatus] != 0) {
  }
  common[kDeviceStatus] = kAcknowledge | kDriver;
  for (uint32_t half = 0; half < 2; ++half) {
    *(volatile uint32_t*)(common + kDriverFeatureSelect) = half;
    *(volatile uint32_t*)(common + kDriverFeature) = half;  // VIRTIO_F_VERSION_1 alone, bit 32
  }
  common[kDeviceStatus] |= kFeaturesOk;
  *(volatile uint16_t*)(common + kQueueSelect) = 0;
  *(volatile uint16_t*)(common + kQueueSize) = kEntries;
  const struct {
    unsigned reg;
    uint64_t address;
  } kParts[] = {{kQueueDescriptors, (uint64_t)descriptors},
                {kQueueDriver, (uint64_t)&available},
                {kQueueDevice, (uint64_t)&used}};
  for (unsigned i = 0; i < 3; ++i) {
    *(volatile uint32_t*)(common + kParts[i].reg) = (uint32_t)kParts[i].address;
    *(volatile uint32_t*)(common + kParts[i].reg + 4) = (uint32_t)(kParts[i].address >> 32);
  }
  available.flags = kNoInterrupt;
  doorbell = (volatile uint16_t*)(notify + multiplier * *(volatile uint16_t*)(common + kQueueNotifyOffset));
  *(volatile uint16_t*)(common + kQueueEnable) = 1;
  common[kDeviceStatus] |= kDriverOk;
}

bool find_disk(void) {
  for (unsigned slot = 0; slot < kSlots && doorbell == 0; ++slot) {
    if (read_configuration(slot, 0) != (kVendor | (uint32_t)kBlockDevice << 16)) continue;
    out32(0xCF8, 0x80000000U | slot << 11 | 4);
    out32(0xCFC, 6);  // answers to memory accesses, and makes some
    volatile uint8_t *common = 0, *notify = 0;
    uint32_t multiplier = 0;
    for (uint8_t at = (uint8_t)read_configuration(slot, 0x34); at != 0;
         at = (uint8_t)read_configuration(slot, at + 1U)) {
      const uint8_t type = (uint8_t)read_configuration(slot, at + kType);
      if ((uint8_t)read_configuration(slot, at) != kVendorSpecific || type > kNotifyStructure) continue;
      volatile uint8_t* const structure =
          map_device(bar(slot, (uint8_t)read_configuration(slot, at + kBar)) + read_configuration(slot, at + kOffset));
      if (type == kCommonStructure) common = structure;
      if (type == kNotifyStructure) {
        notify = structure;
        multiplier = read_configuration(slot, at + kNotifyMultiplier);
      }
    }
    if (common != 0 && notify != 0) set_up(common, notify, multiplier);
  }
  return doorbell != 0;
}

static void start(uint32_t type, uint64_t sector, const void* data) {
  header.type = type;
  header.sector = sector;
  status = 0xFF;
  descriptors[0].address = (uint64_t)&header;
  descriptors[0].length = sizeof header;
  descriptors[0].flags = kNext;
  descriptors[0].next = 1;
  descriptors[1].address = (uint64_t)data;
  descriptors[1].length = kSectorSize;
  descriptors[1].flags = kNext | (type == 0 ? kDeviceWrites : 0);
  descriptors[1].next = 2;
  descriptors[2].address = (uint64_t)&status;
  descriptors[2].length = 1;
  descriptors[2].flags = kDeviceWrites;
  available.ring[available.index % kEntries] = 0;
  __asm__ volatile("" : : : "memory");
  available.index = (uint16_t)(available.index + 1);
  __asm__ volatile("mfence" : : : "memory");
  *doorbell = 0;
}

void start_reading(uint64_t sector, void* to) {
  start(0, sector, to);
}

void start_writing(uint64_t sector, const void* from) {
  start(1, sector, from);
}

bool is_disk_done(void) {
  return used.index == available.index;
}

bool finish_request(void) {
  while (!is_disk_done()) __asm__ volatile("pause" : : : "memory");
  return status == 0;
}
