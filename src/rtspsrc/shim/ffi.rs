//! What the bindings cannot do safely: a plugin whose version is known at run time only, a class that others
//! are derived from, types with the names of `rtspsrc`'s, and properties that dumps leave out.
#![allow(
    unsafe_code,
    reason = "calls of GLib and GStreamer that the bindings lack"
)]

use std::{
    any::Any,
    ffi::{CString, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use gst::{
    ffi as gst_ffi,
    glib::{self, ffi as glib_ffi, gobject_ffi, subclass::prelude::*, translate::*},
    subclass::prelude::BinImpl,
};
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use crate::rtspsrc::RtspMuxSrc;

// SAFETY: the class has no virtual functions of its own, and its private data is found by its own type.
unsafe impl<T: BinImpl> IsSubclassable<T> for RtspMuxSrc {}

/// The description of the plugin `rtsp`.
struct PluginDescription(gst_ffi::GstPluginDesc);

// SAFETY: what it points to is never changed nor freed.
unsafe impl Send for PluginDescription {}
// SAFETY: as above.
unsafe impl Sync for PluginDescription {}

/// What GStreamer calls in a file named `libgstrtsp.so`.
///
/// The plugin has the version of the GStreamer that runs, whose `rtspsrc` it stands for: programs ask by
/// `gst_plugin_feature_check_version` whether theirs is new enough.
#[unsafe(no_mangle)]
pub(super) extern "C" fn gst_plugin_rtsp_get_desc() -> *const gst_ffi::GstPluginDesc {
    static DESCRIPTION: LazyLock<PluginDescription> = LazyLock::new(|| {
        let text = |text: &str| {
            CString::new(text)
                .unwrap_or_default()
                .into_raw()
                .cast_const()
        };
        let (major, minor, micro, _) = gst::version();
        PluginDescription(gst_ffi::GstPluginDesc {
            major_version: gst::subclass::MAJOR_VERSION,
            minor_version: gst::subclass::MINOR_VERSION,
            name: c"rtsp".as_ptr(),
            description: text("rtspsrc on shared connections (shim of rtspmuxsrc)"),
            plugin_init: Some(init),
            version: text(&format!("{major}.{minor}.{micro}")),
            license: c"MPL".as_ptr(),
            source: text(env!("CARGO_PKG_NAME")),
            package: text(concat!(
                env!("CARGO_PKG_NAME"),
                " ",
                env!("CARGO_PKG_VERSION")
            )),
            origin: text(env!("CARGO_PKG_NAME")),
            release_datetime: std::ptr::null(),
            _gst_reserved: [std::ptr::null_mut(); 4],
        })
    });
    &DESCRIPTION.0
}

unsafe extern "C" fn init(plugin: *mut gst_ffi::GstPlugin) -> glib_ffi::gboolean {
    // SAFETY: GStreamer passes its plugin, and keeps it during the call.
    let plugin: Borrowed<gst::Plugin> = unsafe { from_glib_borrow(plugin) };
    let refused: Box<dyn Any + Send> =
        match catch_unwind(AssertUnwindSafe(|| super::register(&plugin))) {
            Ok(Ok(())) => return glib_ffi::GTRUE,
            Ok(Err(error)) => Box::new(error.to_string()),
            Err(panic) => panic,
        };
    let why = refused.downcast_ref::<String>();
    gst::error!(
        gst::CAT_PLUGIN_LOADING,
        "rtspsrc of {} is not registered: {}",
        env!("CARGO_PKG_NAME"),
        why.map_or("panicked", String::as_str)
    );
    glib_ffi::GFALSE
}

/// The type of `default-rtsp-version`, which belongs to a library of GStreamer.
pub(super) fn rtsp_version() -> glib::Type {
    // SAFETY: has no preconditions.
    unsafe { from_glib(gst_rtsp::ffi::gst_rtsp_version_get_type()) }
}

/// Registers an enumeration with the values of another one under another name. No type of that name may be
/// registered.
pub(super) fn renamed_enum(name: &str, of: &glib::EnumClass) -> glib::Type {
    let text = |text: &str| CString::new(text).unwrap_or_default().into_raw();
    let end = gobject_ffi::GEnumValue {
        value: 0,
        value_name: std::ptr::null(),
        value_nick: std::ptr::null(),
    };
    let values = of.values().iter().map(|value| gobject_ffi::GEnumValue {
        value: value.value(),
        value_name: text(value.name()),
        value_nick: text(value.nick()),
    });
    let values: Vec<_> = values.chain([end]).collect();
    // SAFETY: the values end with zeroes and, as types do, live for ever.
    unsafe {
        from_glib(gobject_ffi::g_enum_register_static(
            name.to_glib_none().0,
            values.leak().as_ptr(),
        ))
    }
}

/// The specification of a property, with another enumeration that has the same values.
pub(super) fn with_enum(spec: &glib::ParamSpecEnum, of: glib::Type) -> glib::ParamSpec {
    // SAFETY: the type is an enumeration, of which the default is a value.
    unsafe {
        from_glib_none(gobject_ffi::g_param_spec_enum(
            spec.name().to_glib_none().0,
            spec.nick().to_glib_none().0,
            spec.blurb().to_glib_none().0,
            of.into_glib(),
            spec.default_value_as_i32(),
            spec.flags().into_glib(),
        ))
    }
}

/// Makes the text of a property count as its default wherever values are compared, so that dumps of
/// pipelines (`GST_DEBUG_DUMP_DOT_DIR`), which write what is no default, leave it out. Getters return it.
///
/// The specification has to live as long as the process, as those of registered classes do.
pub(super) fn left_out_of_dumps(spec: glib::ParamSpec) -> glib::ParamSpec {
    unsafe extern "C" fn are_equal(
        _: *mut gobject_ffi::GParamSpec,
        _: *const gobject_ffi::GValue,
        _: *const gobject_ffi::GValue,
    ) -> c_int {
        0
    }
    let instance = spec.as_ptr().cast::<gobject_ffi::GTypeInstance>();
    // SAFETY: `spec` is new, and no other thread knows it. Its class is copied, so it keeps its type; the copy
    // lives for ever.
    unsafe {
        let class = (*instance).g_class.cast::<gobject_ffi::GParamSpecClass>();
        let mut class = Box::new(std::ptr::read(class));
        class.values_cmp = Some(are_equal);
        (*instance).g_class = Box::into_raw(class).cast();
    }
    spec
}
