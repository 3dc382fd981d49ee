/* Elements that cannot be had, under their own names: sinks that drop, filters that pass on, with the
 * properties that are set in documented launch lines. */
#include <gst/base/gstbasesink.h>
#include <gst/base/gstbasetransform.h>
#include <gst/gst.h>

#define PACKAGE "standins"

typedef struct {
  const gchar *name;
  gboolean is_sink;
  const gchar *properties[6];
} StandIn;

static const StandIn STAND_INS[] = {
  {"kvssink", TRUE, {"stream-name", "storage-size", "access-key", "secret-key", "aws-region"}},
  {"gvadetect", FALSE, {"model", "device", "threshold"}},
  {"gvafpscounter", FALSE, {NULL}},
};

static GstStaticPadTemplate sink_template =
GST_STATIC_PAD_TEMPLATE ("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
static GstStaticPadTemplate src_template =
GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);

static void
ignore (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
}

static void
class_init (gpointer class, gpointer data)
{
  const StandIn *stand_in = data;
  guint n;

  G_OBJECT_CLASS (class)->set_property = ignore;
  for (n = 0; n < G_N_ELEMENTS (stand_in->properties) && stand_in->properties[n]; n++)
    g_object_class_install_property (class, 1 + n,
        g_param_spec_string (stand_in->properties[n], "", "", NULL, G_PARAM_WRITABLE));
  gst_element_class_add_static_pad_template (class, &sink_template);
  if (!stand_in->is_sink)
    gst_element_class_add_static_pad_template (class, &src_template);
  gst_element_class_set_static_metadata (class, stand_in->name, "Generic", "stand-in", "tests");
}

static void
filter_init (GTypeInstance *instance, gpointer class)
{
  gst_base_transform_set_passthrough (GST_BASE_TRANSFORM (instance), TRUE);
}

static gboolean
init (GstPlugin *plugin)
{
  guint n;

  for (n = 0; n < G_N_ELEMENTS (STAND_INS); n++) {
    const StandIn *stand_in = &STAND_INS[n];
    GType parent = stand_in->is_sink ? GST_TYPE_BASE_SINK : GST_TYPE_BASE_TRANSFORM;
    gchar *name = g_strdup_printf ("StandIn-%s", stand_in->name);
    GTypeQuery query;
    GTypeInfo info = { 0, };

    g_type_query (parent, &query);
    info.class_size = query.class_size;
    info.instance_size = query.instance_size;
    info.class_init = class_init;
    info.class_data = stand_in;
    info.instance_init = stand_in->is_sink ? NULL : filter_init;
    gst_element_register (plugin, stand_in->name, GST_RANK_NONE,
        g_type_register_static (parent, name, &info, 0));
    g_free (name);
  }
  return TRUE;
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, standins, "stand-ins", init, "1", "LGPL",
    "tests", "tests")
