#include "devices/virtio/device.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/bits.h"
#include "base/log.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint16_t kVendor = 0x1AF4, kFirstModernDevice = 0x1040;
constexpr std::uint8_t kModernRevision = 1;
/// virtio 1.2, 4.1.2.1: the subsystem device ID of a modern device is 40h or more.
constexpr std::uint16_t kSubsystem = 0x1100;

// Device status (2.1).
constexpr std::uint8_t kFeaturesOk = 8, kDriverOk = 4, kNeedsReset = 64;
constexpr std::uint8_t kDriverStatusBits = 1 | 2 | kDriverOk | kFeaturesOk | 128;

constexpr std::uint8_t kIsrQueue = 1, kIsrConfig = 2;

// struct virtio_pci_cap (4.1.4): the fields after the capability's ID and next pointer.
constexpr std::uint8_t kVendorCapability = 0x09;
enum StructureType : std::uint8_t { kCommonCfg = 1, kNotifyCfg = 2, kIsrCfg = 3, kDeviceCfg = 4, kPciCfg = 5 };
constexpr std::size_t kCapBytes = 16;

// struct virtio_pci_common_cfg (4.1.4.3).
enum Common : std::uint64_t {
  kDeviceFeatureSelect = 0x00,
  kDeviceFeature = 0x04,
  kDriverFeatureSelect = 0x08,
  kDriverFeature = 0x0C,
  kConfigVector = 0x10,
  kNumQueues = 0x12,
  kDeviceStatus = 0x14,
  kConfigGeneration = 0x15,
  kQueueSelect = 0x16,
  kQueueSize = 0x18,
  kQueueVector = 0x1A,
  kQueueEnable = 0x1C,
  kQueueNotifyOff = 0x1E,
  kQueueDesc = 0x20,
  kQueueDriver = 0x28,
  kQueueDevice = 0x30,
  kCommonBytes = 0x38,
};

std::uint64_t with_half(std::uint64_t value, bool high, std::uint64_t half) {
  return high ? (value & low_mask(32)) | half << 32 : (value & ~low_mask(32)) | (half & low_mask(32));
}

}  // namespace

Device::Device(std::string name, const Traits& traits, memory::GuestMemory& memory)
    : PciFunction({.vendor_id = kVendor,
                   .device_id = static_cast<std::uint16_t>(kFirstModernDevice + static_cast<unsigned>(traits.type)),
                   .revision_id = kModernRevision,
                   .class_code = traits.class_code,
                   .subsystem_vendor_id = kVendor,
                   .subsystem_id = kSubsystem,
                   .uses_intx = true}),
      name_(std::move(name)),
      offered_features_(traits.features | bit(feature::kIndirectDescriptors) | bit(feature::kEventIndex) |
                        bit(feature::kVersion1)),
      memory_(memory),
      msix_(static_cast<unsigned>(traits.queues.size()) + 1,
            [this](std::uint64_t address, std::uint32_t data) { send_message(address, data); }) {
  for (const std::uint16_t size : traits.queues) queues_.emplace_back(memory, size);
  add_bar(0, {.kind = BarKind::Memory64, .prefetchable = true, .size = kBarBytes});
  add_structure(kCommonCfg, kCommonConfig, kCommonBytes);
  add_structure(kIsrCfg, kIsr, 1);
  add_structure(kDeviceCfg, kDeviceConfig, kNotify - kDeviceConfig);
  add_structure(kNotifyCfg, kNotify, kNotifyMultiplier * queues_.size());
  add_structure(kPciCfg, 0, 0);
  // MSI-X: message control, where the table is, where the pending bits are; both in BAR 0.
  std::array<std::uint8_t, 10> body{};
  store_le(body.data(), static_cast<std::uint16_t>(msix_.vectors() - 1));
  store_le(body.data() + 2, static_cast<std::uint32_t>(kMsixTable));
  store_le(body.data() + 6, static_cast<std::uint32_t>(kMsixPending));
  std::array<std::uint8_t, 10> writable{};
  store_le(writable.data(), static_cast<std::uint16_t>(bus::PciMsix::kEnable | bus::PciMsix::kFunctionMask));
  msix_capability_ = add_capability(bus::PciMsix::kCapabilityId, body, writable);
}

void Device::add_structure(std::uint8_t type, std::uint64_t offset, std::uint64_t length) {
  // Length, type, BAR, ID and two bytes of padding, offset, length; then the multiplier or the data.
  std::array<std::uint8_t, kCapBytes + 4 - 2> body{};
  std::array<std::uint8_t, body.size()> writable{};
  const bool has_more = type == kNotifyCfg || type == kPciCfg;
  const std::size_t bytes = has_more ? body.size() : kCapBytes - 2;
  body[0] = static_cast<std::uint8_t>(bytes + 2);
  body[1] = type;
  store_le(&body[6], static_cast<std::uint32_t>(offset));
  store_le(&body[10], static_cast<std::uint32_t>(length));
  if (type == kNotifyCfg) store_le(&body[14], kNotifyMultiplier);
  if (type == kPciCfg) {
    // The driver says where (BAR, offset, length) and then reads or writes the data (4.1.4.9).
    writable[2] = 0xFF;
    std::fill(writable.begin() + 6, writable.end(), std::uint8_t{0xFF});
  }
  const unsigned at = add_capability(kVendorCapability, std::span(body).first(bytes), std::span(writable).first(bytes));
  if (type == kPciCfg) access_capability_ = at;
}

void Device::before_config_read(unsigned offset, unsigned size) {
  const unsigned data = access_capability_ + kCapBytes;
  if (offset < data || offset + size > data + 4 || config8(access_capability_ + 4) != 0) return;
  const std::uint32_t where = config32(access_capability_ + 8);
  const std::uint32_t length = config32(access_capability_ + 12);
  if (where >= kBarBytes || (length != 1 && length != 2 && length != 4) || where % length != 0) return;
  set_config(data, 4, static_cast<std::uint32_t>(read_register(where, length)));
}

void Device::after_config_write(unsigned offset, unsigned size) {
  if (offset < msix_capability_ + 4 && offset + size > msix_capability_ + 2) {
    msix_.set_control(config16(msix_capability_ + 2));
  }
  const unsigned data = access_capability_ + kCapBytes;
  if (offset < data || offset + size > data + 4 || config8(access_capability_ + 4) != 0) return;
  const std::uint32_t where = config32(access_capability_ + 8);
  const std::uint32_t length = config32(access_capability_ + 12);
  if (where >= kBarBytes || (length != 1 && length != 2 && length != 4) || where % length != 0) return;
  write_register(where, length, config32(data) & low_mask(8 * length));
}

std::uint64_t Device::bar_read(unsigned, std::uint64_t offset, unsigned size) {
  const std::lock_guard guard(lock());
  return read_register(offset, size);
}

void Device::bar_write(unsigned, std::uint64_t offset, unsigned size, std::uint64_t value) {
  const std::lock_guard guard(lock());
  write_register(offset, size, value);
}

std::uint64_t Device::read_register(std::uint64_t offset, unsigned size) {
  const std::uint64_t in_page = offset & 0xFFF;
  switch (offset & ~std::uint64_t{0xFFF}) {
    case kCommonConfig:
      return read_common(in_page, size);
    case kIsr: {
      const std::uint8_t isr = std::exchange(isr_, std::uint8_t{0});
      set_intx(false);
      return isr;
    }
    case kDeviceConfig: {
      const std::span<const std::uint8_t> config = device_config();
      std::uint64_t value = 0;
      for (unsigned i = 0; i < size && in_page + i < config.size(); ++i) {
        value |= std::uint64_t{config[in_page + i]} << (8 * i);
      }
      return value;
    }
    case kMsixTable:
      return msix_.read_table(in_page, size);
    case kMsixPending:
      return msix_.read_pending(in_page, size);
    default:
      return 0;
  }
}

void Device::write_register(std::uint64_t offset, unsigned size, std::uint64_t value) {
  const std::uint64_t in_page = offset & 0xFFF;
  switch (offset & ~std::uint64_t{0xFFF}) {
    case kNotify:
      return notify(static_cast<unsigned>(in_page / kNotifyMultiplier));
    case kCommonConfig:
      return write_common(in_page, size, value);
    case kDeviceConfig:
      return write_device_config(in_page, size, value);
    case kMsixTable:
      return msix_.write_table(in_page, size, value);
    default:
      return;
  }
}

void Device::write_device_config(std::uint64_t, unsigned, std::uint64_t) {}

std::uint64_t Device::read_common(std::uint64_t offset, unsigned size) const {
  std::array<std::uint8_t, kCommonBytes + 8> image{};
  store_le(&image[kDeviceFeatureSelect], device_feature_select_);
  if (device_feature_select_ < 2) {
    store_le(&image[kDeviceFeature], static_cast<std::uint32_t>(offered_features_ >> (32 * device_feature_select_)));
  }
  store_le(&image[kDriverFeatureSelect], driver_feature_select_);
  if (driver_feature_select_ < 2) {
    store_le(&image[kDriverFeature], static_cast<std::uint32_t>(driver_features_ >> (32 * driver_feature_select_)));
  }
  store_le(&image[kConfigVector], config_vector_);
  store_le(&image[kNumQueues], static_cast<std::uint16_t>(queues_.size()));
  image[kDeviceStatus] = status_;
  image[kConfigGeneration] = generation_;
  store_le(&image[kQueueSelect], queue_select_);
  if (queue_select_ < queues_.size()) {
    const Queue& selected = queues_[queue_select_];
    store_le(&image[kQueueSize], selected.size);
    store_le(&image[kQueueVector], selected.msix_vector);
    store_le(&image[kQueueEnable], static_cast<std::uint16_t>(selected.enabled() ? 1 : 0));
    store_le(&image[kQueueNotifyOff], queue_select_);
    store_le(&image[kQueueDesc], selected.descriptor_area);
    store_le(&image[kQueueDriver], selected.driver_area);
    store_le(&image[kQueueDevice], selected.device_area);
  }
  if (offset + size > image.size()) return 0;
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{image[offset + i]} << (8 * i);
  return value;
}

void Device::write_common(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (size == 8 && offset % 4 == 0) {
    write_common(offset, 4, value & low_mask(32));
    write_common(offset + 4, 4, value >> 32);
    return;
  }
  const auto word = static_cast<std::uint16_t>(value);
  const auto vector = word < msix_.vectors() ? word : Queue::kNoVector;
  Queue* const selected = queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
  // A queue that is on keeps its size and its areas.
  Queue* const configurable = selected != nullptr && !selected->enabled() ? selected : nullptr;
  const bool high = offset % 8 == 4;
  switch (offset) {
    case kDeviceFeatureSelect:
      device_feature_select_ = static_cast<std::uint32_t>(value);
      break;
    case kDriverFeatureSelect:
      driver_feature_select_ = static_cast<std::uint32_t>(value);
      break;
    case kDriverFeature:
      if (driver_feature_select_ < 2 && (status_ & kFeaturesOk) == 0) {
        driver_features_ = with_half(driver_features_, driver_feature_select_ == 1, value);
      }
      break;
    case kConfigVector:
      config_vector_ = vector;
      break;
    case kDeviceStatus:
      write_status(static_cast<std::uint8_t>(value));
      break;
    case kQueueSelect:
      queue_select_ = word;
      break;
    case kQueueSize:
      if (configurable != nullptr) configurable->size = word;
      break;
    case kQueueVector:
      if (selected != nullptr) selected->msix_vector = vector;
      break;
    case kQueueEnable:
      if (word == 1 && configurable != nullptr) enable_queue();
      break;
    case kQueueDesc:
    case kQueueDesc + 4:
      if (configurable != nullptr)
        configurable->descriptor_area = with_half(configurable->descriptor_area, high, value);
      break;
    case kQueueDriver:
    case kQueueDriver + 4:
      if (configurable != nullptr) configurable->driver_area = with_half(configurable->driver_area, high, value);
      break;
    case kQueueDevice:
    case kQueueDevice + 4:
      if (configurable != nullptr) configurable->device_area = with_half(configurable->device_area, high, value);
      break;
    default:
      break;
  }
}

void Device::enable_queue() {
  Queue& selected = queues_[queue_select_];
  if (!selected.enable(has_feature(feature::kEventIndex))) fail("a virtqueue that does not lie in RAM");
}

void Device::write_status(std::uint8_t value) {
  if (value == 0) return reset_device();
  std::uint8_t wanted = value & kDriverStatusBits;
  const bool acceptable = (driver_features_ & ~offered_features_) == 0 && has_feature(feature::kVersion1);
  // Refused by not showing the bit (3.1.1, step 6).
  if (!acceptable) wanted &= static_cast<std::uint8_t>(~kFeaturesOk);
  const bool starts = (wanted & kDriverOk) != 0 && (status_ & kDriverOk) == 0;
  status_ = static_cast<std::uint8_t>((status_ & kNeedsReset) | wanted);
  if (starts && (status_ & kFeaturesOk) != 0) on_driver_ok();
}

void Device::reset_device() {
  on_reset();
  for (Queue& each : queues_) each.reset();
  device_feature_select_ = driver_feature_select_ = 0;
  driver_features_ = 0;
  config_vector_ = Queue::kNoVector;
  status_ = 0;
  queue_select_ = 0;
  isr_ = 0;
  set_intx(false);
}

void Device::reset(bus::ResetKind kind) {
  const std::lock_guard guard(lock());
  reset_device();
  msix_.reset();
  generation_ = 0;
  PciFunction::reset(kind);
}

bool Device::is_active() const {
  constexpr std::uint8_t kUp = kDriverOk | kFeaturesOk;
  return !paused_ && (status_ & (kUp | kNeedsReset)) == kUp;
}

void Device::notify(unsigned queue) {
  if (is_active() && queue < queues_.size() && queues_[queue].enabled()) on_notify(queue);
}

void Device::pause() {
  {
    const std::lock_guard guard(lock());
    paused_ = true;
  }
  drain();
}

void Device::resume() {
  const std::lock_guard guard(lock());
  paused_ = false;
  for (unsigned i = 0; i < queues_.size(); ++i) notify(i);
}

bool Device::take(unsigned queue, Chain& chain) {
  if (!is_active()) return false;
  switch (queues_[queue].pop(chain)) {
    case Queue::Pop::Request:
      return true;
    case Queue::Pop::Empty:
      return false;
    case Queue::Pop::Broken:
      break;
  }
  fail("a broken virtqueue");
  return false;
}

bool Device::rest(unsigned queue) {
  queues_[queue].want_notification();
  return is_active() && queues_[queue].has_requests();
}

void Device::interrupt(unsigned queue) {
  if (queues_[queue].take_interrupt()) signal(queues_[queue].msix_vector, kIsrQueue);
}

void Device::config_changed() {
  ++generation_;
  if ((status_ & kDriverOk) != 0) signal(config_vector_, kIsrConfig);
}

void Device::signal(std::uint16_t vector, std::uint8_t isr_bit) {
  if (msix_.enabled()) return msix_.trigger(vector);
  isr_ |= isr_bit;
  set_intx(true);
}

void Device::fail(std::string_view reason) {
  if ((status_ & kNeedsReset) != 0) return;
  log::warning("virtio", "{}: the guest's driver has set up {}; the device needs a reset", name_, reason);
  status_ |= kNeedsReset;
  if ((status_ & kDriverOk) != 0) signal(config_vector_, kIsrConfig);
}

void Device::describe(state::Visitor& v) {
  PciFunction::describe(v);
  v.field(10, "device_feature_select", device_feature_select_);
  v.field(11, "driver_feature_select", driver_feature_select_);
  v.field(12, "driver_features", driver_features_);
  v.field(13, "config_vector", config_vector_);
  v.field(14, "status", status_);
  v.field(15, "generation", generation_);
  v.field(16, "queue_select", queue_select_);
  v.field(17, "isr", isr_);
  v.field(18, "msix", msix_);
  constexpr unsigned kFirstQueueField = 1000;
  for (unsigned i = 0; i < queues_.size(); ++i) {
    v.field(kFirstQueueField + i, "queue" + std::to_string(i), queues_[i]);
  }
  describe_device(v);
}

}  // namespace doppel::devices::virtio
